"""The kinds of questions that the data engine counts a model's mistakes by, and writes new questions of.

Source: the prompts of MLLM-DataEngine (opendatalab, Apache-2.0) for the first table; SEED-Bench's nine image dimensions
(Li et al., 2023), which the later paper uses, for the second one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuestionType:
    """`number` is the one in the prompts, `name` how they write it, `definition` what they explain it by."""

    number: int
    name: str
    definition: str

    @property
    def key(self) -> str:
        return key_of(self.name)


def key_of(name: str) -> str:
    """The name in files: `Image scene` → `image_scene`; a hyphen stays."""
    return name.strip().replace(" ", "_").lower()


def words_of(key: str) -> str:
    """How prompts write a key: `image_scene` → `image scene`."""
    return key.replace("_", " ")


QUESTION_TYPES = (
    QuestionType(
        1,
        "Identity reasoning",
        "Predict the identity of a person. Example: by observing a person’s clothing and appearance, one may "
        "infer his / her occupation and social status.",
    ),
    QuestionType(
        2,
        "Physical property reasoning",
        "Predict the physical property of an object. Examples: the physical property of concentrated sulfuric"
        " acid is that it is volatile, the physical property of water is its fluidity, etc.",
    ),
    QuestionType(
        3,
        "Attribute recognition",
        "Recognition of texture, shape, appearance characteristics, emotions, category, celebrities, famous "
        "places and objects, optical characters.",
    ),
    QuestionType(
        4,
        "Function reasoning",
        "Predict the function of an object. Examples: the function of a broom is to sweep the floor, the "
        "function of a spatula is to cook, the function of a pen is to write, etc.",
    ),
    QuestionType(
        5,
        "Object localization",
        "For a single object, determine its position in the image (such as top, bottom, etc.), its absolute "
        "coordinates in the image, count the number of objects, and the orientation of the object.",
    ),
    QuestionType(
        6,
        "Attribute comparison",
        "Compare attributes of different objects in image, such as shape, color, etc.",
    ),
    QuestionType(
        7,
        "Nature relation",
        "Other abstract relationships that exist in nature. Examples: predation, symbiosis, coexistence, etc.",
    ),
    QuestionType(
        8,
        "Future prediction",
        "Predict what will happen in the future. Examples: if it is thundering in the sky now, it can be "
        "predicted that it will rain soon (physical phenomenon); if someone raises their fist, it means they "
        "are going to hit someone (event occurrence); if someone’s face becomes serious, it means they are "
        "going to get angry (emotional change).",
    ),
    QuestionType(
        9,
        "Image scene",
        "Determine which environment is shown in the image, such as indoors, outdoors, forest, city, "
        "mountains, waterfront, sunny day, rainy day, etc.",
    ),
    QuestionType(10, "Spatial relationship", "Determine the relative position between objects in image."),
    QuestionType(
        11,
        "Image quality",
        "Determine the objective quality of the image, such as whether it is blurry, bright or dark, contrast, etc.",
    ),
    QuestionType(
        12,
        "Physical relation",
        "All relationships that exist in the physical world, 3D spatial relationships and the connections "
        "between objects are.",
    ),
    QuestionType(
        13,
        "Action recognition",
        "Recognizing human actions, including pose motion, human-object interaction, and human-human interaction.",
    ),
    QuestionType(
        14,
        "Social relation",
        "Relations in human society or relations defined from the human perspective. Examples: Inter-person "
        "relations, such as father and son, husband and wife, friend, hostile, etc.",
    ),
    QuestionType(
        15,
        "Image style",
        "Determine which type of image it belongs to, such as photos, paintings, CT scans, etc.",
    ),
    QuestionType(
        16,
        "Image emotion",
        "Determine which subjective emotion is conveyed by the overall image, such as cold, cheerful, sad, or"
        " oppressive.",
    ),
    QuestionType(
        17,
        "Image topic",
        "Determine what the subject of the image is, such as scenery, portrait, close-up of an object, text, etc.",
    ),
    QuestionType(
        18,
        "Knowledge-based reasoning",
        "Require pre-existing knowledge outside the content of the image. Example: the year of this object "
        "invented, the top ranked player in this sport, etc.",
    ),
)

RETIRED_TYPES = (  # still explained by the published query script, no longer offered to the classifier
    QuestionType(
        19,
        "Structuralized imagetext understanding",
        "Structured understanding of images and text, including parsing the content of charts (such as the trends of "
        "multiple bars in a bar chart), understanding the code in an image, etc.",
    ),
    QuestionType(20, "Ocr", "Recognition of text, formula, and sheet in the image."),
    QuestionType(21, "Celebrity recognition", "Recognition of celebrities, landmarks, and common items."),
)

SEED_TYPES = (  # numbers as in SEED-Bench; the definitions are worded here, the paper's own lie in a figure only
    QuestionType(1, "Scene Understanding", "What the image shows as a whole: the scene, the event, the surroundings."),
    QuestionType(2, "Instance Identity", "What a certain object or person in the image is: its existence or category."),
    QuestionType(3, "Instance Attributes", "How a certain object or person looks: colour, shape, material, clothing."),
    QuestionType(4, "Instance Location", "Where in the image a certain object or person is."),
    QuestionType(5, "Instances Counting", "How many objects of a kind the image shows."),
    QuestionType(6, "Spatial Relation", "Where two objects or persons are in relation to each other."),
    QuestionType(7, "Instance Interaction", "What objects or persons do with each other, or how they are connected."),
    QuestionType(
        8, "Visual Reasoning", "What can be concluded from the image by reasoning: causes, aims, what is next."
    ),
    QuestionType(9, "Text Understanding", "What is written in the image, and what it says."),
)

TYPE_KEYS = tuple(kind.key for kind in QUESTION_TYPES)
_DEFINITIONS = {kind.key: kind.definition for kind in (*QUESTION_TYPES, *RETIRED_TYPES, *SEED_TYPES)}


def definition_of(key: str) -> str | None:
    """What the prompts explain a type by, of any of the tables; None for one that no table has."""
    return _DEFINITIONS.get(key)
