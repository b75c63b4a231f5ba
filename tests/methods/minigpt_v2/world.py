"""Every data set of the published mixture in miniature, in its published place and form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from tests.helpers import jpeg

WORDS = ("left", "red")
COUNT = 4  # images of each kind, and rows of most data sets


def make_world(root: Path) -> Path:
    """What `train_dataset` holds; the images are real JPEGs. Every data set has rows that can be used."""
    coco = [f"COCO_train2014_{i:012d}.jpg" for i in range(COUNT)]
    images = {
        "COCO2014/train": coco,
        "vg/VG_100K": [f"{i}.jpg" for i in range(COUNT)],
        "flickr/flickr30k-images": [f"{i}.jpg" for i in range(COUNT)],
        "textcaps/train_images": [f"text{i}.jpg" for i in range(COUNT)],
        "gqa/images/train": [f"{i}.jpg" for i in range(COUNT)],
        "ocrvqa/images": [f"book{i}.jpg" for i in range(COUNT)],
    }
    for folder, names in images.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(names):
            (root / folder / name).write_bytes(jpeg(seed, (40, 24)))
    for name, content in {**engine(), **questions(), **talks(), **phrases(), **regions()}.items():
        write(root / name, content)
    for name, refs in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        write(root / "refcoco" / name / "instances.json", instances())
        (root / "refcoco" / name / f"refs({refs}).p").write_bytes(pickle.dumps(references(), protocol=0))
    return root


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def engine() -> dict[str, Any]:
    options = ["Top right", "Bottom right", "None", "Left middle"]
    rows = [
        {"instruction": f"Where is number {i}?", "answer": f"It is at the {options[i]}.", "short_answer": options[i],
         "options": options, "choice_answer": "ABCD"[i], "image": f"vg/VG_100K/{i}.jpg", "qtype": 4}
        for i in range(COUNT)
    ]  # fmt: skip
    rows.append({"instruction": "No choices here", "answer": "Yes.", "image": "vg/VG_100K/0.jpg", "qtype": 1})
    return {"data_engine/dataengine_minigpt4.json": rows}


def questions() -> dict[str, Any]:
    def vqa(split: str, **answers: Any) -> list[dict[str, Any]]:
        names = [f"{split}/COCO_{split}_{i:012d}.jpg" for i in range(COUNT)]
        return [
            {"image": name, "question": f"What is number {i}?", "question_id": i, **answers}
            for i, name in enumerate(names)
        ]

    ten = ["a dog"] * 7 + ["Dog"] * 3
    gqa = [{"image": f"{i}.jpg", "question": "Is it?", "answer": "yes", "question_id": str(i)} for i in range(COUNT)]
    books = {
        f"book{i}": {"imageURL": f"http://books.example/{i}.jpg", "questions": ["Who wrote it?", "What genre?"],
                     "answers": ["A. Writer", "Tales"], "split": 1 if i else 3, "title": "T", "genre": "Tales"}
        for i in range(COUNT)
    }  # fmt: skip
    names = [f"{part}2014/COCO_{part}2014_{i:012d}.jpg" for part in ("train", "val") for i in range(COUNT)]
    captions = [{"image": name, "caption": "A cat on a mat.", "image_id": f"coco_{i}"} for i, name in enumerate(names)]
    return {
        "vqav2/vqa_train.json": vqa("train2014", answer=ten),
        "vqav2/vqa_val.json": vqa("val2014", answer=ten),
        "okvqa/okvqa_train.json": vqa("train2014", answer=ten),
        "aokvqa/aokvqa_v1p0_train.json": vqa("train2014", direct_answers=ten),
        "gqa/train_balanced_questions.json": gqa,
        "ocrvqa/dataset.json": books,
        "COCO2014/coco_karpathy_train.json": captions,
        "textcaps/TextCaps_0.1_train.json": {
            "data": [{"image_id": f"text{i}", "caption_str": f"A sign says {i}."} for i in range(COUNT)]
        },
    }


def talks() -> dict[str, Any]:
    def rows(turns: int) -> list[dict[str, Any]]:
        said = [("human", "What is it?\n<image>"), ("gpt", "It is a Cat."), ("human", "Why?"), ("gpt", "It purrs.")]
        return [
            {"id": f"{i:012d}", "conversations": [{"from": who, "value": text} for who, text in said[:turns]]}
            for i in range(COUNT)
        ]

    told = {"instruction_with_input": "Count to three.", "constraints": "Use words.", "output": "One, two, three."}
    return {
        "multitask_conversation/multitask_conversation.json": rows(4),
        "llava/conversation_58k.json": rows(4),
        "llava/detail_23k.json": rows(2),
        "llava/complex_reasoning_77k.json": rows(2),
        "nlp/filtered_unnatural_instruction.json": [{"instances": [told]} for _ in range(COUNT)],
    }


def phrases() -> dict[str, Any]:
    box, ids = "{<10><20><30><40>}", range(COUNT)
    told = f"<p>A man</p> {box}"
    return {
        "flickr/groundedcaption.json": [{"image_id": i, "grounded_caption": told} for i in ids],
        "flickr/captiontobbox.json": [{"image_id": i, "caption": "A man.", "output": told} for i in ids],
        "flickr/phrasetobbox.json": [{"image_id": i, "phrase": "a man", "bbox": box} for i in ids],
    }


def regions() -> dict[str, Any]:
    """The last region of each image is too large."""
    sizes = ((128, 64), (100, 100), (128, 128))
    told = [
        {"id": i, "regions": [
            {"region_id": 10 * i + j, "x": 1, "y": 2, "width": wide, "height": high, "phrase": f"The region {j}."}
            for j, (wide, high) in enumerate(sizes)
        ]}
        for i in range(COUNT)
    ]  # fmt: skip
    known = [
        {"image_id": i, "width": 400, "height": 300, "url": f"https://cs.stanford.edu/people/rak248/VG_100K/{i}.jpg"}
        for i in range(COUNT)
    ]
    return {"vg/region_descriptions.json": told, "vg/image_data.json": known}


def instances() -> dict[str, Any]:
    return {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(COUNT)],
        "annotations": [{"id": 100 + i, "image_id": i, "bbox": [10.5, 20.25, 100.1, 50.9]} for i in range(COUNT)],
    }


def references() -> list[dict[str, Any]]:
    """One of them belongs to the validation."""
    said = [{"raw": f"The {word} one", "sent": f"the {word} one", "tokens": ["the", word, "one"]} for word in WORDS]
    return [
        {"ref_id": i, "image_id": i, "ann_id": 100 + i, "split": "train" if i else "val", "category_id": 1,
         "file_name": f"COCO_train2014_{i:012d}_{i}.jpg", "sentences": said}
        for i in range(COUNT)
    ]  # fmt: skip
