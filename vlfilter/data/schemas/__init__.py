"""The annotation schemas that a mixture's entries name. A new one is a small file beside these and a line here."""

from __future__ import annotations

from vlfilter.data.schemas.base import Schema
from vlfilter.data.schemas.captions import COCO_CAPTIONS, TEXTCAPS
from vlfilter.data.schemas.conversations import CONVERSATION, EXCHANGE, UNNATURAL
from vlfilter.data.schemas.engine import ENGINE_DA, ENGINE_MC, ENGINE_MCP
from vlfilter.data.schemas.flickr import FLICKR_CAPTION, FLICKR_GROUNDED, FLICKR_PHRASE
from vlfilter.data.schemas.refcoco import INV_REFCOCO, REFCOCO
from vlfilter.data.schemas.regions import VG_REGIONS
from vlfilter.data.schemas.vqa import OCR_VQA, VQA

SCHEMAS: dict[str, Schema] = {
    "vqa": VQA,
    "ocr_vqa": OCR_VQA,
    "coco_captions": COCO_CAPTIONS,
    "textcaps": TEXTCAPS,
    "vg_regions": VG_REGIONS,
    "refcoco": REFCOCO,
    "inv_refcoco": INV_REFCOCO,
    "flickr_grounded_caption": FLICKR_GROUNDED,
    "flickr_caption_to_phrase": FLICKR_CAPTION,
    "flickr_object_to_phrase": FLICKR_PHRASE,
    "conversation": CONVERSATION,
    "exchange": EXCHANGE,
    "unnatural_instructions": UNNATURAL,
    "engine_da": ENGINE_DA,
    "engine_mc": ENGINE_MC,
    "engine_mcp": ENGINE_MCP,
}
