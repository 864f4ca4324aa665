#!/usr/bin/env python3
"""Makes tests/golden/chat.json: chat templates as checkpoints carry them, and what transformers renders with them.

    python tools/golden/make_chat_golden.py        (needs: pip install transformers jinja2)
"""
import json
import os

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "chat.json")

CHATML = r"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
CHATML_PROMPT = r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
DEFAULT = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

TEMPLATES = [
    ("chatml", CHATML + CHATML_PROMPT),
    ("chatml", DEFAULT + CHATML + CHATML_PROMPT),
    ("chatml", "{{ bos_token }}" + CHATML + CHATML_PROMPT),
    ("chatml", "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
               "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"),
    ("chatml", "{# ChatML #}\n{% for message in messages %}\n<|im_start|>{{ message[\"role\"] }}\n{{ message.content }}<|im_end|>\n{% endfor %}\n"
               "  {% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}\n"),
    ("zephyr", ZEPHYR),
    ("zephyr", ZEPHYR.replace("'<|user|>\n'", "'<|user|>\\n'").replace("{% for message in messages %}\n", "{% for message in messages -%}\n  ")),
    # Not plain: to be refused.
    (None, CHATML.replace("message['content']", "message['content'] | trim") + CHATML_PROMPT),
    (None, "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}" + CHATML + CHATML_PROMPT),
    (None, CHATML.replace("'\\n'}}", "' '}}") + CHATML_PROMPT),
    (None, CHATML + "\n" + CHATML_PROMPT.replace("assistant", "bot")),
    (None, ZEPHYR.replace("+ eos_token", "")),
    (None, "{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"),
]

CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": " 2 + 2? "}, {"role": "assistant", "content": "4"},
     {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "\nYes — 四.\n"}],
    [{"role": "assistant", "content": ""}, {"role": "assistant", "content": "<|im_end|>'\"{{ x }}"}],
]


def main():
    made = []
    for name, template in TEMPLATES:
        cases = []
        for messages in CONVERSATIONS:
            for prompt in (False, True):
                rendered, _ = render_jinja_template(conversations=[messages], chat_template=template, add_generation_prompt=prompt,
                                                    bos_token="<s>", eos_token="<|endoftext|>")
                cases.append({"messages": messages, "add_generation_prompt": prompt, "text": rendered[0]})
        made.append({"is": name, "template": template, "cases": cases if name else []})
    with open(OUT, "w", encoding="utf8") as f:
        json.dump({"made_by": "tools/golden/make_chat_golden.py", "transformers": transformers.__version__, "jinja2": jinja2.__version__,
                   "bos_token": "<s>", "eos_token": "<|endoftext|>", "templates": made}, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
