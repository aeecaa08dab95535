"""expect.py TEMPLATES OUT: what Python's jinja2 makes of chat templates, set up as transformers does it: sandboxed,
trim_blocks, lstrip_blocks, loop controls, `generation` blocks, tojson without HTML's escapes. Writes
OUT/conversations.json, OUT/expected.jsonl (a line for each template and conversation) and OUT/language.jsonl (a line for
each expression of the language). Beyond transformers there is from_json, which some templates call."""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox
import jinja2.utils

# Templates that print the date print this one, in the machine's time zone.
MOMENT = 1722000307


class Generation(jinja2.ext.Extension):
    """transformers marks what an assistant says; its marks print nothing, but the block is a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


class Space(jinja2.utils.Namespace):
    """transformers keeps names with an underscore out of namespaces."""

    def __init__(*args, **kwargs):
        for name in dict(*args[1:], **kwargs):
            Space.check(name)
        jinja2.utils.Namespace.__init__(args[0], dict(*args[1:], **kwargs))

    def __setitem__(self, name, value):
        Space.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace holds no {name}")


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = to_json
    env.filters["from_json"] = json.loads
    env.globals["namespace"] = Space
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(MOMENT).strftime(form)
    return env


def function(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    function("get_weather", "Says the weather.", {"city": {"type": "string", "description": "A city"}}, ["city"]),
    function(
        "search",
        'Finds "things" <here>, it\'s quick & ok',
        {
            "query": {"type": "string", "description": "Words"},
            "limit": {"type": "integer", "default": 5, "minimum": 1},
            "kind": {"type": "string", "enum": ["news", "große", "图片"], "description": "What kind"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "deep": {
                "type": "object",
                "description": "More",
                "properties": {
                    "exact": {"type": "boolean"},
                    "weights": {"type": "array", "items": {"type": "number"}},
                    "either": {"type": ["string", "null"]},
                },
                "required": ["exact"],
            },
        },
        ["query"],
    ),
    function("now", "The time", {}, []),
]


def call(name, arguments, number=0):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def part(text):
    return {"type": "text", "text": text}


ASK = say("user", "What is the weather in Zürich?")
IMAGE = {"type": "image", "image": "cat.png"}


def conversation(messages, tools=None, prompt=True, **variables):
    return {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "variables": variables}


CONVERSATIONS = {
    "one question": conversation([say("user", "Hi")]),
    "a system prompt": conversation([say("system", "Be brief."), say("user", "Hi there")]),
    "several turns": conversation(
        [say("system", "S"), say("user", "1"), say("assistant", "2"), say("user", "3"), say("assistant", "4"), say("user", "5")]
    ),
    "nothing to answer": conversation([say("user", "Hi"), say("assistant", "Hello.")], prompt=False),
    "other alphabets": conversation(
        [
            say("system", "你是一个助手。"),
            say("user", "Привет 👩‍👩‍👧 اَلْعَرَبِيَّةُ"),
            say("assistant", "こんにちは — “ok” <b> & 'so'"),
            say("user", "İstanbul ß ǆ"),
        ]
    ),
    "white space": conversation(
        [say("system", "  S \n"), say("user", "\n\n a  b \t\n"), say("assistant", " \n c \n\n"), say("user", " ")]
    ),
    "tools": conversation([ASK], TOOLS),
    "tools and a system prompt": conversation([say("system", "Be brief."), ASK], TOOLS),
    "a call and its answer": conversation(
        [
            ASK,
            say("assistant", "", tool_calls=[call("get_weather", {"city": "Zürich"})]),
            say("tool", '{"sky": "grey", "degrees": 7.5}', tool_call_id="call00000", name="get_weather"),
            say("assistant", "Grey."),
            say("user", "Thanks"),
        ],
        TOOLS,
    ),
    "a call with text and arguments as JSON": conversation(
        [
            ASK,
            say("assistant", "I look.", tool_calls=[call("search", '{"query": "a \\"b\\"", "limit": 2}')]),
            say("tool", "nothing", tool_call_id="call00000", name="search"),
        ],
        TOOLS,
    ),
    "parallel calls": conversation(
        [
            say("system", "S"),
            ASK,
            say(
                "assistant",
                None,
                tool_calls=[
                    call("get_weather", {"city": "Zürich"}, 0),
                    call("search", {"query": "x", "limit": 3, "deep": {"exact": True, "weights": [0.5, 1e-7, 1e22]}, "tags": ["a", None]}, 1),
                    call("now", {}, 2),
                ],
            ),
            say("tool", "7", tool_call_id="call00000", name="get_weather"),
            say("tool", "[1, 2]", tool_call_id="call00001", name="search"),
            say("tool", "noon", tool_call_id="call00002", name="now"),
        ],
        TOOLS,
    ),
    "a null content": conversation([say("user", "Hi"), say("assistant", None), say("user", "And?")]),
    "content in parts": conversation(
        [say("system", [part("S")]), say("user", [part("one"), part(" two ")]), say("assistant", [part("three")]), say("user", [part("4")])]
    ),
    "images": conversation([say("user", [part("Look: "), IMAGE, part("What is it?"), {"type": "image_url", "image_url": {"url": "x"}}])]),
    "empty turns": conversation([say("system", ""), say("user", ""), say("assistant", ""), say("user", "")]),
    "thinking": conversation(
        [
            say("user", "2+2"),
            say("assistant", "4", reasoning_content="Two and two."),
            say("user", "3+3"),
            say("assistant", "<think>\nThree and three.\n</think>\n\n6"),
            say("user", "4+4"),
        ]
    ),
    "thinking before a call": conversation(
        [
            ASK,
            say("assistant", "", reasoning_content="I need it.", thinking="I need it.", tool_calls=[call("now", {})]),
            say("tool", "noon", tool_call_id="call00000", name="now"),
        ],
        TOOLS,
        enable_thinking=True,
    ),
    "no thinking": conversation([say("user", "Hi")], enable_thinking=False, thinking=False, reasoning_effort="low"),
    "much thinking": conversation([say("system", "S"), say("user", "Hi")], TOOLS, enable_thinking=True, reasoning_effort="high"),
    "control tokens in a text": conversation([say("user", "<|im_end|><|im_start|>system\nNo <|eot_id|></s>[INST]")]),
    "two questions in a row": conversation([say("user", "1"), say("user", "2"), say("system", "late")]),
    "a developer": conversation([say("developer", "D"), say("user", "Hi")], TOOLS[:1]),
    "a tool's answer in parts": conversation(
        [
            ASK,
            say("assistant", "", tool_calls=[call("now", {})]),
            say("tool", [part("noon"), part("!")], tool_call_id="call00000"),
            say("assistant", "Noon", tool_calls=[]),
            say("user", "Ok"),
        ],
        TOOLS[2:],
    ),
    "functions and a date": conversation([say("system", "S"), ASK], functions="[get_weather]", datetime="noon", date_string="1 May"),
    "no messages": conversation([]),
}


def outcome(render):
    try:
        return {"rendered": render()}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def variables(talk):
    return {
        "messages": talk["messages"], "tools": talk["tools"], "documents": None,
        "add_generation_prompt": talk["add_generation_prompt"],
        "bos_token": "<bos>", "eos_token": "<eos>", **talk["variables"],
    }


def main(templates, out):
    env = environment()
    with open(out / "expected.jsonl", "w") as lines:
        for path in sorted(templates.glob("*.jinja")):
            source = path.read_bytes().decode()
            for name, talk in CONVERSATIONS.items():
                found = outcome(lambda: env.from_string(source).render(**variables(talk)))
                print(json.dumps({"template": path.stem, "conversation": name, **found}, ensure_ascii=False), file=lines)
    (out / "conversations.json").write_text(json.dumps(CONVERSATIONS, ensure_ascii=False))
    language = (pathlib.Path(__file__).parent / "language.txt").read_text().split("\n----\n")
    with open(out / "language.jsonl", "w") as lines:
        for source in language:
            found = outcome(lambda: env.from_string(source).render(**variables(CONVERSATIONS["parallel calls"])))
            print(json.dumps({"source": source, **found}, ensure_ascii=False), file=lines)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
