"""Our conversation templates as Jinja chat templates, for what transformers and vLLM read from a model's folder."""

from __future__ import annotations

import json

from vlfilter.models.conversation import IMAGE_PLACEHOLDER, Template

EXACT_PROMPT = "exact_prompt"  # the template variable that replaces all of the prompt's text


def chat_template(template: Template, bos: str = "") -> str:
    """A Jinja template that writes exactly the template's text: images first, each with a line break, then the words.

    A system message replaces the template's own. The variable `exact_prompt` (`chat_template_kwargs` of vLLM's API)
    replaces the whole text, so that a client can ask in other words than those it was trained with.
    """
    system, own = _cut_system(template)
    image = _quote(IMAGE_PLACEHOLDER + "\n")
    return (
        f"{{%- if {EXACT_PROMPT} is defined and {EXACT_PROMPT} -%}}{{{{ {EXACT_PROMPT} }}}}{{%- else -%}}"
        "{%- macro words(content) -%}{%- if content is string -%}{{ content }}{%- else -%}"
        "{%- for part in content -%}{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}"
        "{%- endif -%}{%- endmacro -%}"
        f"{{{{ {_quote(bos)} }}}}"
        "{%- if messages and messages[0]['role'] == 'system' -%}"
        f"{{{{ {_quote(own[0])} ~ words(messages[0]['content']) ~ {_quote(own[1])} }}}}"
        f"{{%- else -%}}{{{{ {_quote(system)} }}}}{{%- endif -%}}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'user' -%}"
        f"{{{{ {_quote(template.user)} }}}}"
        "{%- if message['content'] is not string -%}"
        "{%- for content in message['content'] -%}{%- if content['type'] in ('image', 'image_url') -%}"
        f"{{{{ {image} }}}}"
        "{%- endif -%}{%- endfor -%}{%- endif -%}"
        f"{{{{ words(message['content']) ~ {_quote(template.user_end)} }}}}"
        "{%- elif message['role'] == 'assistant' -%}"
        f"{{{{ {_quote(template.assistant + template.answer_gap)} ~ words(message['content']) "
        f"~ {_quote(template.assistant_end)} }}}}"
        "{%- endif -%}{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{ {_quote(template.assistant)} }}}}{{%- endif -%}}"
        "{%- endif -%}"
    )


def _cut_system(template: Template) -> tuple[str, tuple[str, str]]:
    """The system text, and what stands before and after its words."""
    start, end = "<|im_start|>system\n", "<|im_end|>"
    if template.system.startswith(start):
        return template.system, (start, end)
    return template.system, ("", template.system.rpartition(".")[2])  # a sentence, and what separates it


def _quote(text: str) -> str:
    """A Jinja string literal (JSON's escapes are among those that it reads)."""
    return json.dumps(text, ensure_ascii=False)
