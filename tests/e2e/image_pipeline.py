"""A pipeline of three tasks, each in an image of its own: by tag and by digest, with variables, an entry point and a user of their own."""

from __future__ import annotations

from image_registry import Registry, file, layer, userland

PIPELINE = """version 1.0
task first {
  input { Boolean waits }
  command <<<
    echo once
    if ~{waits}; then until [ -e /mnt/workflow/go ]; do sleep 0.02; done; fi
    echo "$(cat /opt/name) $TOOL $(id -u) $HOME"
  >>>
  output { Array[String] said = read_lines(stdout()) }
  runtime { docker: "FIRST" }
}
task second {
  input { String before }
  command <<< cat /opt/name > name; echo "~{before} > $(cat name) $TOOL $(id -u)" >>>
  output { String said = read_string(stdout()) }
  runtime { container: "SECOND" }
}
task third {
  input { String before }
  command <<< echo "~{before} > $(cat /opt/name) $(id -u):$(id -g) $HOME" > kept; stat -c %a kept >>>
  output { String said = read_string("kept") File kept = "kept" }
  runtime { docker: ["THIRD"] }
}
workflow main {
  input { Boolean waits = false }
  call first { input: waits = waits }
  call second { input: before = first.said[1] }
  call third { input: before = second.said }
  output { String said = third.said  File kept = third.kept }
}
"""
SAID = "one 1 0 /root > two 2 0 > three 1234:1235 /people/alice"


def furnish(lab: Registry) -> bytes:
    """Push the pipeline's images; the layer of tools that they have in common."""
    tools = userland()
    lab.push(
        "lab/one:1",
        [tools, layer(file("opt/name", "one\n"))],
        config={"Env": ["TOOL=1"], "Entrypoint": ["/bin/false"]},
    )
    lab.push("lab/two:1", [tools, layer(file("opt/name", "two\n"))], config={"Env": ["TOOL=2"], "WorkingDir": "/opt"})
    lab.push("lab/three:1", [tools, layer(file("opt/name", "three\n"))], config={"User": "alice"})
    return tools


def pipeline(lab: Registry) -> str:
    names = {
        "FIRST": f"{lab.host}/lab/one:1",
        "SECOND": f"{lab.host}/lab/two@{lab.digests['lab/two:1']}",
        "THIRD": f"{lab.host}/lab/three:1",
    }
    text = PIPELINE
    for word, name in names.items():
        text = text.replace(word, name)
    return text
