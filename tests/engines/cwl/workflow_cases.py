"""CWL cases about workflows: scatter, conditions, merging, sub-workflows, packed documents. Our own, written for this project."""

from __future__ import annotations

from cwl_oracle import case

ECHO = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [echo, -n]
inputs: {a: {type: "Any", inputBinding: {position: 1}}, b: {type: "Any?", inputBinding: {position: 2}}}
stdout: out.txt
outputs: {text: {type: string, outputBinding: {glob: out.txt, loadContents: true, outputEval: "$(self[0].contents)"}}}
"""


def _scatter(method: str, kind: str) -> str:
    return f"""
        cwlVersion: v1.2
        class: Workflow
        requirements: {{ScatterFeatureRequirement: {{}}}}
        inputs: {{xs: "string[]", ys: "int[]"}}
        steps:
          s: {{run: echo.cwl, scatter: [a, b], scatterMethod: {method}, in: {{a: xs, b: ys}}, out: [text]}}
        outputs: {{all: {{type: {kind}, outputSource: s/text}}}}
        """


NESTED = "{type: array, items: {type: array, items: string}}"

WORKFLOWS = [
    case(
        "scatter-and-gather",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements: {ScatterFeatureRequirement: {}, StepInputExpressionRequirement: {}, InlineJavascriptRequirement: {}}
        inputs: {names: "string[]"}
        steps:
          greet:
            run: echo.cwl
            scatter: a
            in: {a: names, b: {valueFrom: "$(inputs.a.length)"}}
            out: [text]
          join:
            in: {texts: greet/text}
            out: [file]
            run:
              class: CommandLineTool
              baseCommand: [printf, "%s\\n"]
              inputs: {texts: {type: "string[]", inputBinding: {position: 1}}}
              stdout: all.txt
              outputs: {file: stdout}
        outputs: {file: {type: File, outputSource: join/file}}
        """,
        {"names": ["one", "three", "seventeen"]},
        others={"echo.cwl": ECHO},
    ),
    case(
        "scatter-dotproduct",
        _scatter("dotproduct", '"string[]"'),
        {"xs": ["a", "b"], "ys": [1, 2]},
        others={"echo.cwl": ECHO},
    ),
    case(
        "scatter-flat-crossproduct",
        _scatter("flat_crossproduct", '"string[]"'),
        {"xs": ["a", "b"], "ys": [1, 2, 3]},
        others={"echo.cwl": ECHO},
    ),
    case(
        "scatter-nested-crossproduct",
        _scatter("nested_crossproduct", NESTED),
        {"xs": ["a", "b"], "ys": [1, 2, 3]},
        others={"echo.cwl": ECHO},
    ),
    case("scatter-over-nothing", _scatter("dotproduct", '"string[]"'), {"xs": [], "ys": []}, others={"echo.cwl": ECHO}),
    case(
        "scatter-of-unequal-lengths",
        _scatter("dotproduct", '"string[]"'),
        {"xs": ["a"], "ys": [1, 2]},
        others={"echo.cwl": ECHO},
        fails=True,
    ),
    case(
        "conditional-steps",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements:
          InlineJavascriptRequirement: {}
          MultipleInputFeatureRequirement: {}
          ScatterFeatureRequirement: {}
        inputs: {go: boolean, ns: "int[]"}
        steps:
          yes: {run: echo.cwl, when: $(inputs.go), in: {go: go, a: {default: "yes"}}, out: [text]}
          no: {run: echo.cwl, when: $(!inputs.go), in: {go: go, a: {default: "no"}}, out: [text]}
          odd: {run: echo.cwl, when: $(inputs.a % 2 == 1), scatter: a, in: {a: ns}, out: [text]}
        outputs:
          which: {type: string, outputSource: [yes/text, no/text], pickValue: the_only_non_null}
          first: {type: string, outputSource: [no/text, yes/text], pickValue: first_non_null}
          skipped: {type: string?, outputSource: no/text}
          some: {type: "string[]", outputSource: odd/text, pickValue: all_non_null}
        """,
        {"go": True, "ns": [1, 2, 3]},
        others={"echo.cwl": ECHO},
    ),
    case(
        "merging-of-links",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements: {MultipleInputFeatureRequirement: {}, ScatterFeatureRequirement: {}}
        inputs: {xs: "string[]", ys: "string[]", z: string}
        steps:
          s: {run: echo.cwl, scatter: a, in: {a: {source: [xs, ys], linkMerge: merge_flattened}}, out: [text]}
        outputs:
          flat: {type: "string[]", outputSource: s/text}
          nested: {type: Any, outputSource: [xs, ys], linkMerge: merge_nested}
        """,
        {"xs": ["a"], "ys": ["b", "c"], "z": "z"},
        others={"echo.cwl": ECHO},
    ),
    case(
        "subworkflows-in-a-scatter",
        """
        cwlVersion: v1.1
        class: Workflow
        requirements: {SubworkflowFeatureRequirement: {}, ScatterFeatureRequirement: {}}
        inputs: {xs: "string[]"}
        steps:
          sub: {run: sub.cwl, scatter: x, in: {x: xs}, out: [result]}
        outputs: {all: {type: "string[]", outputSource: sub/result}}
        """,
        {"xs": ["p", "q"]},
        others={
            "echo.cwl": ECHO,
            "sub.cwl": """
                cwlVersion: v1.2
                class: Workflow
                inputs: {x: string}
                steps:
                  first: {run: echo.cwl, in: {a: x}, out: [text]}
                  second: {run: echo.cwl, in: {a: first/text, b: x}, out: [text]}
                outputs: {result: {type: string, outputSource: second/text}}
                """,
        },
    ),
    case(
        "step-expressions",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements: {StepInputExpressionRequirement: {}, InlineJavascriptRequirement: {}}
        inputs: {f: File, n: {type: int, default: 4}}
        steps:
          s:
            run: echo.cwl
            in:
              a: {source: f, loadContents: true, valueFrom: "$(self.contents.trim())"}
              b: {source: n, valueFrom: "$(self * 2)"}
            out: [text]
        outputs: {text: {type: string, outputSource: s/text}}
        """,
        {"f": {"class": "File", "location": "s3://in/f.txt"}},
        objects={"s3://in/f.txt": b"inside \n"},
        others={"echo.cwl": ECHO},
    ),
    case(
        "packed-graph-with-main",
        """
        cwlVersion: v1.0
        $graph:
          - id: main
            class: Workflow
            inputs: {x: string}
            steps: {one: {run: "#tool", in: {w: x}, out: [o]}}
            outputs: {o: {type: File, outputSource: one/o}}
          - id: tool
            class: CommandLineTool
            baseCommand: echo
            inputs: {w: {type: string, inputBinding: {position: 1}}}
            stdout: o.txt
            outputs: {o: stdout}
        """,
        {"x": "packed"},
    ),
    case(
        "packed-graph-by-id",
        """
        cwlVersion: v1.2
        $graph:
          - id: one
            class: CommandLineTool
            baseCommand: [echo, one]
            inputs: []
            stdout: o.txt
            outputs: {o: stdout}
          - id: two
            class: CommandLineTool
            baseCommand: [echo, two]
            inputs: []
            stdout: o.txt
            outputs: {o: stdout}
        """,
        main="main.cwl#two",
    ),
    case(
        "imports-and-includes",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements:
          SchemaDefRequirement: {types: [{$import: types/pair.yml}]}
        inputs: {p: "types/pair.yml#pair"}
        steps:
          s:
            in: {p: p}
            out: [o]
            run: tools/t.cwl
        outputs: {o: {type: File, outputSource: s/o}}
        """,
        {"p": {"left": "l", "right": 7}},
        others={
            "types/pair.yml": "{name: pair, type: record, fields: [{name: left, type: string}, {name: right, type: int}]}",
            "tools/t.cwl": """
                cwlVersion: v1.2
                class: CommandLineTool
                requirements:
                  SchemaDefRequirement: {types: [{$import: ../types/pair.yml}]}
                  InlineJavascriptRequirement: {expressionLib: [{$include: lib.js}]}
                baseCommand: echo
                arguments: ["$(shown(inputs.p))"]
                inputs: {p: "../types/pair.yml#pair"}
                stdout: o.txt
                outputs: {o: stdout}
                """,
            "tools/lib.js": "function shown(p) { return p.left + '=' + p.right; }",
        },
    ),
    case(
        "secondary-files-through-a-workflow",
        """
        cwlVersion: v1.2
        class: Workflow
        inputs: {bam: {type: File, secondaryFiles: [.bai]}}
        steps:
          make:
            in: {bam: bam}
            out: [o]
            run:
              class: CommandLineTool
              baseCommand: [sh, -c, 'cat "$1" "$1.bai" > o.bam; echo index > o.bam.bai', x]
              inputs: {bam: {type: File, secondaryFiles: [.bai], inputBinding: {position: 1}}}
              outputs: {o: {type: File, secondaryFiles: [.bai], outputBinding: {glob: o.bam}}}
          use:
            in: {bam: make/o}
            out: [o]
            run:
              class: CommandLineTool
              baseCommand: [sh, -c, 'cat "$1" "$1.bai"', x]
              inputs: {bam: {type: File, secondaryFiles: [.bai], inputBinding: {position: 1}}}
              stdout: all.txt
              outputs: {o: stdout}
        outputs: {made: {type: File, outputSource: make/o}, used: {type: File, outputSource: use/o}}
        """,
        {"bam": {"class": "File", "location": "s3://in/x.bam"}},
        objects={"s3://in/x.bam": b"bam ", "s3://in/x.bam.bai": b"bai "},
    ),
    case(
        "directories-between-steps",
        """
        cwlVersion: v1.2
        class: Workflow
        inputs: []
        steps:
          make:
            in: []
            out: [d]
            run:
              class: CommandLineTool
              baseCommand: [sh, -c, "mkdir -p d/sub; echo 1 > d/a; echo 2 > d/sub/b"]
              inputs: []
              outputs: {d: {type: Directory, outputBinding: {glob: d}}}
          use:
            in: {d: make/d}
            out: [o]
            run:
              class: CommandLineTool
              baseCommand: [sh, -c, 'cd "$1"; find . -type f | sort; cat a sub/b', x]
              inputs: {d: {type: Directory, inputBinding: {position: 1}}}
              stdout: o.txt
              outputs: {o: stdout}
        outputs: {d: {type: Directory, outputSource: make/d}, o: {type: File, outputSource: use/o}}
        """,
    ),
    case(
        "requirements-from-above-and-overridden",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements: {EnvVarRequirement: {envDef: {A: workflow}}, InlineJavascriptRequirement: {}}
        inputs: []
        steps:
          above: {run: env.cwl, in: [], out: [o]}
          own: {run: env.cwl, in: [], out: [o], requirements: {EnvVarRequirement: {envDef: {A: step}}}}
        outputs: {a: {type: string, outputSource: above/o}, b: {type: string, outputSource: own/o}}
        """,
        others={
            "env.cwl": """
                cwlVersion: v1.2
                class: CommandLineTool
                baseCommand: [sh, -c, 'echo -n "$A"']
                inputs: []
                stdout: o
                outputs: {o: {type: string, outputBinding: {glob: o, loadContents: true, outputEval: "$(self[0].contents)"}}}
                """
        },
    ),
    case(
        "loop-of-the-extension",
        """
        cwlVersion: v1.2
        class: Workflow
        $namespaces: {cwltool: "http://commonwl.org/cwltool#"}
        requirements: {InlineJavascriptRequirement: {}, SubworkflowFeatureRequirement: {}}
        inputs: {n: int}
        steps:
          up:
            run:
              class: ExpressionTool
              inputs: {n: int}
              outputs: {m: int}
              expression: "${return {m: inputs.n + 3};}"
            in: {n: n}
            out: [m]
            requirements:
              cwltool:Loop: {loopWhen: $(inputs.n < 10), loop: {n: m}, outputMethod: last}
        outputs: {m: {type: int, outputSource: up/m}}
        """,
        {"n": 1},
    ),
    case(
        "values-without-tasks",
        """
        cwlVersion: v1.2
        class: Workflow
        inputs: {a: int, s: "string[]", l: long, d: double, b: boolean, any: Any}
        steps: []
        outputs:
          a: {type: int, outputSource: a}
          s: {type: "string[]", outputSource: s}
          l: {type: long, outputSource: l}
          d: {type: double, outputSource: d}
          b: {type: boolean, outputSource: b}
          any: {type: Any, outputSource: any}
        """,
        {"a": 1, "s": ["x"], "l": 9007199254740993, "d": 1.5e-7, "b": False, "any": {"k": [1, {"m": None}]}},
    ),
    case(
        "a-step-fails",
        """
        cwlVersion: v1.2
        class: Workflow
        inputs: []
        steps:
          bad: {in: [], out: [], run: {class: CommandLineTool, baseCommand: "false", inputs: [], outputs: []}}
        outputs: []
        """,
        fails=True,
    ),
]
