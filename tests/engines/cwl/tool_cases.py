"""CWL cases about single tools: command lines, streams, outputs, expressions, requirements. Our own, written for this project."""

from __future__ import annotations

from cwl_oracle import case

TOOLS = [
    case(
        "command-line-bindings",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [printf, "%s\\n"]
        arguments: [{position: 2, valueFrom: middle}, last]
        inputs:
          text: {type: string, inputBinding: {position: 1, prefix: --text}}
          glued: {type: int, inputBinding: {position: 3, prefix: --n=, separate: false}}
          flag: {type: boolean, inputBinding: {position: 4, prefix: -f}}
          off: {type: boolean, inputBinding: {position: 5, prefix: -x}}
          list: {type: "string[]", inputBinding: {position: 6, prefix: -l, itemSeparator: ","}}
          each: {type: {type: array, items: string, inputBinding: {prefix: -e}}, inputBinding: {position: 7}}
          none: {type: string?, inputBinding: {position: 8, prefix: --none}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"text": "a b", "glued": 3, "flag": True, "off": False, "list": ["x", "y"], "each": ["p", "q"]},
    ),
    case(
        "quoting-of-hard-texts",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [printf, "%s|"]
        inputs: {words: {type: "string[]", inputBinding: {position: 1}}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"words": ["it's", '"q"', "$HOME", "`id`", "a\nb", "ü €", "\\", ";true", "*"]},
    ),
    case(
        "shell-command",
        """
        cwlVersion: v1.0
        class: CommandLineTool
        requirements: {ShellCommandRequirement: {}}
        arguments:
          - {valueFrom: "echo one two | tr a-z A-Z", shellQuote: false}
          - {valueFrom: "&& echo", shellQuote: false}
          - "$(inputs.word)"
        inputs: {word: string}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"word": "three; four"},
    ),
    case(
        "standard-streams",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "cat; echo wrong >&2"]
        inputs: {data: stdin}
        stdout: said.txt
        stderr: err.txt
        outputs: {out: stdout, err: stderr}
        """,
        {"data": {"class": "File", "location": "s3://in/data.txt"}},
        objects={"s3://in/data.txt": b"from stdin\n"},
    ),
    case(
        "stdin-named-and-random-stdout",
        """
        cwlVersion: v1.1
        class: CommandLineTool
        baseCommand: [wc, -c]
        stdin: $(inputs.f.path)
        inputs: {f: File}
        stdout: count-$(inputs.f.nameroot).txt
        outputs: {n: {type: File, outputBinding: {glob: "count-*.txt"}}}
        """,
        {"f": {"class": "File", "location": "s3://in/deep/er/x.y.txt"}},
        objects={"s3://in/deep/er/x.y.txt": b"12345"},
    ),
    case(
        "environment",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          EnvVarRequirement: {envDef: {ONE: "1", TWO: "$(inputs.x) and more", THREE: "it's \\"x\\""}}
        baseCommand: [sh, -c, 'printf "%s|%s|%s" "$ONE" "$TWO" "$THREE"; [ "$HOME" = "$PWD" ]']
        inputs: {x: string}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"x": "two"},
    ),
    case(
        "expressions-everywhere",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          InlineJavascriptRequirement:
            expressionLib: ["function twice(s) { return s + s; }", "var k = 3;"]
        baseCommand: [sh, -c, 'printf %s "$@" > made.txt', x]
        arguments: ["$(twice(inputs.a))", "${return inputs.n * k;}", "$(JSON.stringify({z: [1, null]}))", "plain $(inputs.a)!"]
        inputs: {a: string, n: int}
        outputs:
          made: {type: File, outputBinding: {glob: "${return 'ma' + 'de.txt';}"}}
          sum: {type: int, outputBinding: {outputEval: "$(inputs.n + k)"}}
          object: {type: Any, outputBinding: {outputEval: "${return {a: [1, 2.5, 'ü'], b: null, c: true};}"}}
        """,
        {"a": "ab", "n": 5},
    ),
    case(
        "parameter-references-need-no-javascript",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [printf, "%s,"]
        arguments: ["$(inputs.r.list[1])", "$(inputs.r['key with space'])", "$(inputs.f.size)", "$(runtime.cores)", "\\\\$(not)"]
        inputs: {r: Any, f: File}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"r": {"list": [1, 2], "key with space": "v"}, "f": {"class": "File", "location": "s3://in/a.bin"}},
        objects={"s3://in/a.bin": b"1234567"},
    ),
    case(
        "globs",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "echo 1 > b.txt; echo 2 > a.txt; echo 3 > c.log; mkdir d; echo 4 > d/e.txt; touch 'with space.txt'"]
        inputs: []
        outputs:
          all: {type: "File[]", outputBinding: {glob: "*.txt"}}
          two: {type: "File[]", outputBinding: {glob: [c.log, "d/*.txt"]}}
          none: {type: "File[]", outputBinding: {glob: "*.none"}}
          maybe: {type: File?, outputBinding: {glob: "*.none"}}
          directory: {type: Directory, outputBinding: {glob: d}}
        """,
    ),
    case(
        "load-contents",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements: {InlineJavascriptRequirement: {}}
        baseCommand: [echo, "42"]
        inputs: {f: {type: File, loadContents: true}}
        stdout: n.txt
        outputs:
          n: {type: int, outputBinding: {glob: n.txt, loadContents: true, outputEval: "$(parseInt(self[0].contents))"}}
          upper: {type: string, outputBinding: {outputEval: "$(inputs.f.contents.toUpperCase())"}}
        """,
        {"f": {"class": "File", "location": "s3://in/t.txt"}},
        objects={"s3://in/t.txt": "grün".encode()},
    ),
    case(
        "output-document-of-the-tool",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand:
          - sh
          - -c
          - 'echo data > f.txt; printf %s "{\\"f\\": {\\"class\\": \\"File\\", \\"path\\": \\"f.txt\\"}, \\"n\\": 7}" > cwl.output.json'
        inputs: []
        outputs: {f: File, n: int}
        """,
    ),
    case(
        "secondary-files-of-outputs",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [touch, x.bam, x.bam.bai, x.txt]
        inputs: []
        outputs:
          bam: {type: File, secondaryFiles: [.bai, ^.txt, {pattern: .none, required: false}], outputBinding: {glob: x.bam}}
        """,
    ),
    case(
        "success-codes",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "echo some > o; exit 3"]
        successCodes: [3]
        inputs: []
        outputs: {o: {type: File, outputBinding: {glob: o}}, code: {type: int, outputBinding: {outputEval: $(runtime.exitCode)}}}
        """,
    ),
    case(
        "resources-by-expression",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          InlineJavascriptRequirement: {}
          ResourceRequirement: {coresMin: "$(inputs.n)", ramMin: "$(inputs.n * 100)", tmpdirMin: 10, outdirMin: 20}
        baseCommand: [printf, "%s "]
        arguments: [$(runtime.cores), $(runtime.ram), $(runtime.outdirSize), $(runtime.tmpdirSize)]
        inputs: {n: int}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"n": 2},
    ),
    case(
        "hints-that-change-nothing",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        $namespaces: {cwltool: "http://commonwl.org/cwltool#", arv: "http://arvados.org/cwl#"}
        hints:
          DockerRequirement: {dockerPull: "debian:12"}
          NetworkAccess: {networkAccess: true}
          ToolTimeLimit: {timelimit: 100}
          WorkReuse: {enableReuse: false}
          SoftwareRequirement: {packages: {sh: {version: ["1"]}}}
          arv:OutOfMemoryRetry: {memoryRetryMultiplier: 3}
        baseCommand: [echo, fine]
        inputs: []
        stdout: out.txt
        outputs: {out: stdout}
        """,
    ),
    case(
        "long-arguments",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, 'echo $#; printf "%s\\n" "$@" | cksum', x]
        inputs: {all: {type: "string[]", inputBinding: {position: 1}}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"all": [f"it's number {number} " * 700 for number in range(12)]},
    ),
    case(
        "formats-and-ontology",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        $namespaces: {edam: "http://edamontology.org/"}
        baseCommand: [cat]
        inputs: {f: {type: File, format: edam:format_2330, inputBinding: {position: 1}}}
        stdout: out.txt
        outputs: {out: {type: stdout, format: edam:format_2330}}
        """,
        {"f": {"class": "File", "location": "s3://in/a.txt", "format": "http://edamontology.org/format_2330"}},
        objects={"s3://in/a.txt": b"text"},
    ),
    case(
        "records-and-enums",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          SchemaDefRequirement:
            types:
              - name: mode
                type: enum
                symbols: [fast, slow]
              - name: sample
                type: record
                fields:
                  id: {type: string, inputBinding: {prefix: --id}}
                  reads: {type: "File[]", inputBinding: {prefix: --reads, valueFrom: "$(self[1].basename)"}}
                  mode: "#mode"
        baseCommand: [printf, "%s "]
        inputs: {s: {type: "#sample", inputBinding: {position: 1}}, m: {type: "#mode", inputBinding: {position: 2}}}
        stdout: out.txt
        outputs:
          out: stdout
          r:
            type:
              type: record
              name: result
              fields:
                a: {type: File, outputBinding: {glob: out.txt}}
                b: {type: string, outputBinding: {outputEval: $(inputs.s.id)}}
        """,
        {
            "s": {
                "id": "S1",
                "mode": "fast",
                "reads": [{"class": "File", "location": "s3://in/r1"}, {"class": "File", "location": "s3://in/r2"}],
            },
            "m": "slow",
        },
        objects={"s3://in/r1": b"1", "s3://in/r2": b"2"},
    ),
    case(
        "defaults-and-null",
        """
        cwlVersion: v1.0
        class: CommandLineTool
        baseCommand: [printf, "%s "]
        inputs:
          a: {type: int, default: 5, inputBinding: {position: 1}}
          b: {type: ["null", string], inputBinding: {position: 2}}
          c: {type: File, default: {class: File, location: data.txt}, inputBinding: {position: 3, valueFrom: $(self.basename)}}
        stdout: out.txt
        outputs: {out: stdout, same: {type: File, outputBinding: {outputEval: $(inputs.c)}}}
        """,
        others={"data.txt": "in the archive"},
    ),
    case(
        "expression-tool",
        """
        cwlVersion: v1.2
        class: ExpressionTool
        requirements: {InlineJavascriptRequirement: {}}
        inputs: {n: "int[]"}
        outputs: {sum: int, parts: "string[]", literal: File, listed: Directory}
        expression: >
          ${
            var sum = 0; inputs.n.forEach(function (x) { sum += x; });
            return {sum: sum, parts: inputs.n.map(String), literal: {class: "File", basename: "lit.txt", contents: "a literal"},
                    listed: {class: "Directory", basename: "d", listing: [{class: "File", basename: "in.txt", contents: "inside"}]}};
          }
        """,
        {"n": [1, 2, 3]},
    ),
    case(
        "failure-of-the-command",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "exit 4"]
        inputs: []
        outputs: []
        """,
        fails=True,
    ),
    case(
        "permanent-fail-code-of-zero",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: "true"
        permanentFailCodes: [0]
        inputs: []
        outputs: []
        """,
        fails=True,
    ),
    case(
        "missing-output",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: "true"
        inputs: []
        outputs: {o: {type: File, outputBinding: {glob: nothing.txt}}}
        """,
        fails=True,
    ),
    case(
        "javascript-error",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements: {InlineJavascriptRequirement: {}}
        baseCommand: echo
        arguments: ["$(inputs.nothing.here)"]
        inputs: {a: string}
        outputs: []
        """,
        {"a": "x"},
        fails=True,
    ),
    case(
        "input-of-the-wrong-type",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: echo
        inputs: {n: int}
        outputs: []
        """,
        {"n": "five"},
        fails=True,
    ),
]
