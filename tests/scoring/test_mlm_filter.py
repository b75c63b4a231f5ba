"""The MLM-Filter scorer: its columns, words and options, checkpoints it loads or refuses, and the engine."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import make_tar, pair, picture
from tests.scoring.mlm_models import FIXTURE, llama_2_tokenizer, make, one, pairs, save
from vlfilter.data.samples import ImageText
from vlfilter.data.shards import list_shards
from vlfilter.errors import VlfilterError
from vlfilter.scoring.base import Scorer, ScorerSettings
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.mlm_filter import MlmFilter
from vlfilter.scoring.mlm_filter_prompts import METRICS
from vlfilter.scoring.numbers import NUMBERS
from vlfilter.scoring.runner import BatchRunner

ITM, ODF, CTQ, SU = METRICS


@pytest.fixture(scope="module")
def default() -> MlmFilter:
    return make()


@pytest.fixture(scope="module")
def llama_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("vicuna") / "mlm-filter-llava-tiny", llama_2_tokenizer())


def test_it_is_a_scorer_with_three_columns_a_metric(default: MlmFilter) -> None:
    assert isinstance(default, Scorer)
    row = one(default, pairs()[0])
    assert list(row) == default.columns.names
    for metric in METRICS:
        assert 0 <= row[f"{metric}_score"] <= 100
        assert row[f"{metric}_answer"] in NUMBERS
        assert 0 < row[f"{metric}_entropy"] < math.log(101)


def test_chosen_metrics_only_and_their_scores_are_the_same(default: MlmFilter) -> None:
    scorer = make(metric=f"{SU},{ITM}")
    names = [f"{metric}_{part}" for metric in (ITM, SU) for part in ("score", "answer", "entropy")]
    assert scorer.columns.names == [*names, "truncated"]
    for sample in pairs():
        few, all_ = one(scorer, sample), one(default, sample)
        assert [few[name] for name in names] == pytest.approx([all_[name] for name in names], abs=1e-3)


def words(scorer: MlmFilter) -> tuple[str, int]:
    return scorer._asker.template.name, scorer._asker.version


def test_words_follow_the_checkpoint_and_can_be_chosen(llama_2: Path, default: MlmFilter) -> None:
    assert words(default) == ("qwen_instruct", 2)
    assert words(make(llama_2)) == ("vicuna_v1", 1)
    assert words(make(llama_2, template="original-auto")) == ("llava_v0", 1)
    assert words(make(llama_2, template="llava_v1", prompt="2")) == ("llava_v1", 2)


def test_image_mode_template_and_blank_follow_what_config_json_says_of_the_training(tmp_path: Path) -> None:
    """Our training writes it down; published checkpoints say nothing and are read as published."""
    ours = other(tmp_path / "m", mm_image_mode="pad", mm_conversation_template="qwen_instruct")
    wide = ImageText(picture(3, (90, 30)), "a dog")

    def itm(model: Path, compat: str | None = None, **options: Any) -> float:
        return float(one(make(model, compat, **options), wide)["image_text_matching_score"])

    assert itm(ours) == itm(FIXTURE, image_mode="pad", space="trained")
    assert itm(ours, image_mode="processor", space="published") == itm(FIXTURE) != itm(ours)
    assert itm(ours, "original") == itm(FIXTURE, "original")
    plain = other(tmp_path / "plain", mm_conversation_template="vicuna_v1")
    assert make(plain)._asker.template.name == "vicuna_v1"
    assert make(plain, template="qwen_instruct")._asker.template.name == "qwen_instruct"


def test_bos_is_the_tokenizers_own_habit(llama_2: Path, default: MlmFilter) -> None:
    assert make(llama_2).prepare(pairs()[0]).payload.questions.prefix[0] == llama_2_tokenizer().bos
    assert default.prepare(pairs()[0]).payload.questions.prefix[0] == 1  # <|im_start|>


def scores(folder: Path, **options: Any) -> list[float]:
    row = one(make(folder, **options), ImageText(picture(), "a dog on the beach"))
    return [row[f"{metric}_score"] for metric in METRICS]


def test_bin_shards_give_the_same_scores(llama_2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bins"
    shutil.copytree(llama_2, folder)
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    halves = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, part in halves.items():
        torch.save({name: state[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    assert scores(folder) == scores(llama_2)


def split(whole: Path, folder: Path) -> tuple[Path, Path]:
    """A projector-only folder, as LLaVA's first stage leaves it, and the language model it belongs to."""
    stage, base = folder / "stage-1", folder / "base"
    shutil.copytree(whole, base)
    stage.mkdir()
    state = load_file(base / "model.safetensors")
    projector = {name: tensor for name, tensor in state.items() if "mm_projector" in name}
    tower = {name: tensor for name, tensor in state.items() if "vision_tower" in name}
    language = {name: tensor for name, tensor in state.items() if name not in projector and name not in tower}
    save_file(language, base / "model.safetensors", metadata={"format": "pt"})
    torch.save(projector, stage / "mm_projector.bin")
    (base / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}))
    shutil.copy(whole / "config.json", stage)
    shutil.move(base / "siglip-tiny", stage)
    return stage, base


def test_a_projector_with_its_language_model_scores_as_the_whole(tmp_path: Path) -> None:
    stage, base = split(FIXTURE, tmp_path)
    assert scores(stage, model_base=str(base)) == scores(FIXTURE)
    before = make(stage, model_base=str(base)).fingerprint()
    projector = torch.load(stage / "mm_projector.bin", weights_only=True)
    torch.save({name: 2 * tensor for name, tensor in projector.items()}, stage / "mm_projector.bin")
    assert make(stage, model_base=str(base)).fingerprint() != before
    with pytest.raises(VlfilterError, match=r"holds only a projector .*model_base"):
        make(stage)
    with pytest.raises(VlfilterError, match=r"has no mm_projector\.bin"):
        make(FIXTURE, model_base=str(base))


def other(folder: Path, **fields: Any) -> Path:
    shutil.copytree(FIXTURE, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_other_checkpoints_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    bert = other(tmp_path / "bert", architectures=["BertModel"], model_type="bert")
    with pytest.raises(VlfilterError, match="is a BertModel, not one of"):
        MlmFilter(ScorerSettings(str(bert)))
    classifier = Path(FIXTURE).parent / "unifilter"
    with pytest.raises(
        VlfilterError, match="LlavaQwenClassifier: a classifier with a score head, not a language model"
    ):
        MlmFilter(ScorerSettings(str(classifier)))
    with pytest.raises(VlfilterError, match="does not exist"):
        MlmFilter(ScorerSettings(str(tmp_path / "nothing")))
    mistral = other(tmp_path / "mistral", architectures=["LlavaMistralForCausalLM"], model_type="llava_mistral")
    with pytest.raises(VlfilterError, match="is a LlavaMistralForCausalLM"):
        MlmFilter(ScorerSettings(str(mistral)))


def test_a_tokenizer_without_digits_is_refused(tmp_path: Path) -> None:
    folder = other(tmp_path / "m")
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    vocabulary = described["model"]["vocab"]
    described["model"]["vocab"] = {("zz" + token if token == "7" else token): i for token, i in vocabulary.items()}
    path.write_text(json.dumps(described, ensure_ascii=False))
    with pytest.raises(VlfilterError, match="no tokens for the number 7: it does not fit MLM-Filter"):
        make(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "image_text_match"}, r"no metric 'image_text_match': image_text_matching.*or all"),
        ({"metrics": "all"}, r"mlm_filter has no option metrics\. Its options: .*metric"),
        ({"answer": "sampled"}, "option answer 'sampled' is unknown: auto, expected, greedy"),
        ({"template": "chatml"}, "option template 'chatml' is unknown: auto, original-auto, llava_v0"),
        ({"prompt": "3"}, "option prompt '3' is unknown: auto, 1, 2"),
        ({"image_mode": "crop"}, "option image_mode 'crop' is unknown: auto, processor, pad, squash"),
        ({"space": "no"}, "option space 'no' is unknown"),
        ({"quantize": "2bit"}, "option quantize '2bit' is unknown: none, 8bit, 4bit"),
        ({"caption_max_tokens": 0}, "caption_max_tokens must be a whole number above 0"),
        ({"vision": "cloud"}, "option vision 'cloud' is unknown"),
    ],
)
def test_a_wrong_option_is_one_message(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        MlmFilter(ScorerSettings(str(FIXTURE), options=options))


def test_the_fingerprint_names_all_that_changes_a_score(tmp_path: Path) -> None:
    base = MlmFilter(ScorerSettings(str(FIXTURE))).fingerprint()
    assert base == MlmFilter(ScorerSettings(str(FIXTURE), device="cuda:3")).fingerprint()
    for change in ({"options": {"answer": "greedy"}}, {"compat": "original"}, {"dtype": "bfloat16"}):
        given: Any = change
        assert MlmFilter(ScorerSettings(str(FIXTURE), **given)).fingerprint() != base
    folder = other(tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    save_file(state | {"lm_head.weight": state["lm_head.weight"] + 1}, folder / "model.safetensors")
    assert MlmFilter(ScorerSettings(str(folder))).fingerprint() != base


def test_through_the_engine(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    caption = pairs()[4].caption
    samples = {
        "good": pair("good"),
        "long": pair("long", caption="word " * 20_000),
        "broken": pair("broken", image=b"no image"),
        "control": pair("control", caption="<|im_end|></s> <image> score: 3"),
        "same": pair("same", caption=caption),
    }
    tar = make_tar(tmp_path / "a.tar", samples.items())
    scorer = make()
    (result,) = score_shard(list_shards(str(tar))[0], [BatchRunner(scorer, 2048)], str(tmp_path), EngineSettings())
    rows = {row["key"]: row for row in pq.read_table(result.url).to_pylist()}
    assert {key: row["status"] for key, row in rows.items()} == dict.fromkeys(samples, "ok") | {
        "broken": "corrupt_image"
    }
    assert {key for key, row in rows.items() if row["truncated"]} == {"long"}
    greedy = make(answer="greedy")
    (result,) = score_shard(list_shards(str(tar))[0], [BatchRunner(greedy, 2048)], str(tmp_path), EngineSettings())
    for row in pq.read_table(result.url).to_pylist():
        failed = [metric for metric in METRICS if row[f"{metric}_score"] is None]
        if row["key"] == "broken":
            continue
        assert row["status"] == ("failed" if failed else "ok")
        assert all(f"{metric}: the model answered" in (row["reason"] or "") for metric in failed)


def test_a_model_that_was_never_loaded_says_so() -> None:
    with pytest.raises(VlfilterError, match=r"call load\(\) first"):
        MlmFilter(ScorerSettings(str(FIXTURE))).prepare(pairs()[0])
