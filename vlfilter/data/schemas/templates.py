"""How MiniGPT-v2 words its tasks: pools of which each row gets one. `{}` is where the row's own text goes.

Source: the data set classes of MiniGPT-4's repository; the texts are what its published checkpoints were trained on.
"""

from __future__ import annotations

_SHORT_CAPTION = (
    "Briefly describe this image.",
    "Provide a concise depiction of this image.",
    "Present a short description of this image.",
    "Summarize this image in a few words.",
    "A short image caption:",
    "A short image description:",
    "A photo of ",
    "An image that shows ",
    "Write a short description for the image. ",
    "Write a description for the photo.",
    "Provide a description of what is presented in the photo.",
    "Briefly describe the content of the image.",
    "Can you briefly explain what you see in the image?",
    "Could you use a few words to describe what you perceive in the photo?",
    "Please provide a short depiction of the picture.",
    "Using language, provide a short account of the image.",
    "Use a few words to illustrate what is happening in the picture.",
)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "text": ("{}",),
    "vqa": ("[vqa] {}", "[vqa] Based on the image, respond to this question with a short answer: {}"),
    "question": ("[vqa] {}",),
    "caption": tuple(f"[caption] {words}" for words in _SHORT_CAPTION),
    "refer": (
        "[refer] {}",
        "[refer] give me the location of {}",
        "[refer] where is {} ?",
        "[refer] from this image, tell me the location of {}",
        "[refer] the location of {} is",
        "[refer] could you tell me the location for {} ?",
        "[refer] where can I locate the {} ?",
    ),
    "identify": (
        "[identify] {}",
        "[identify] what object is in this location {}",
        "[identify] identify the object present at this location {}",
        "[identify] what is it in {}",
        "[identify] describe this object in {}",
        "[identify] this {} is",
        "[identify] the object in {} is",
    ),
    "grounding": (
        "[grounding] please describe this image in details",
        "[grounding] describe this image as detailed as possible",
        "[grounding] summarize this image in details",
        "[grounding] give a thorough description of what you see in this image",
    ),
    "detection": ("[detection] {}",),
}
