"""CWL cases about files and directories: secondary files, literals, working directories, listings. Our own, written for this project."""

from __future__ import annotations

from cwl_oracle import case

FILES = [
    case(
        "secondary-files-found-beside-the-input",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements: {InlineJavascriptRequirement: {}}
        baseCommand: [sh, -c, 'cat "$1" "$1.bai" "${1%.bam}.csi"', x]
        inputs:
          bam:
            type: File
            secondaryFiles: [.bai, "^.csi", {pattern: .absent, required: false}]
            inputBinding: {position: 1}
        stdout: out.txt
        outputs: {out: stdout, n: {type: int, outputBinding: {outputEval: $(inputs.bam.secondaryFiles.length)}}}
        """,
        {"bam": {"class": "File", "location": "s3://in/p/x.bam"}},
        objects={"s3://in/p/x.bam": b"bam ", "s3://in/p/x.bam.bai": b"bai ", "s3://in/p/x.csi": b"csi"},
    ),
    case(
        "secondary-files-given",
        """
        cwlVersion: v1.1
        class: CommandLineTool
        baseCommand: [sh, -c, 'cat "$1" "$1.fai"', x]
        inputs: {fa: {type: File, secondaryFiles: [.fai], inputBinding: {position: 1}}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {
            "fa": {
                "class": "File",
                "location": "s3://in/one/g.fa",
                "secondaryFiles": [{"class": "File", "location": "s3://in/another/g.fa.fai"}],
            }
        },
        objects={"s3://in/one/g.fa": b"fa ", "s3://in/another/g.fa.fai": b"fai"},
    ),
    case(
        "missing-secondary-file",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: cat
        inputs: {bam: {type: File, secondaryFiles: [.bai], inputBinding: {position: 1}}}
        outputs: []
        """,
        {"bam": {"class": "File", "location": "s3://in/x.bam"}},
        objects={"s3://in/x.bam": b"bam"},
        fails=True,
    ),
    case(
        "directory-in-and-out",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, 'cp -rL "$1" copy; find copy -type f | sort > list.txt', x]
        inputs: {d: {type: Directory, inputBinding: {position: 1}}}
        outputs:
          copy: {type: Directory, outputBinding: {glob: copy}}
          list: {type: File, outputBinding: {glob: list.txt}}
        """,
        {"d": {"class": "Directory", "location": "s3://in/tree/"}},
        objects={"s3://in/tree/a.txt": b"a", "s3://in/tree/sub/b.txt": b"b", "s3://in/tree/sub/deep/c": b""},
    ),
    case(
        "listing-of-a-directory",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          InlineJavascriptRequirement: {}
          LoadListingRequirement: {loadListing: shallow_listing}
        baseCommand: [echo]
        arguments: ["$(inputs.d.listing.map(function (f) { return f.basename; }).sort().join(','))"]
        inputs: {d: Directory}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"d": {"class": "Directory", "location": "s3://in/tree"}},
        objects={"s3://in/tree/a.txt": b"a", "s3://in/tree/b.txt": b"b", "s3://in/tree/sub/c": b"c"},
    ),
    case(
        "file-and-directory-literals",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, 'cat "$1"; ls "$2"; cat "$2"/*', x]
        inputs: {f: {type: File, inputBinding: {position: 1}}, d: {type: Directory, inputBinding: {position: 2}}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {
            "f": {"class": "File", "basename": "l.txt", "contents": "literal\n"},
            "d": {
                "class": "Directory",
                "basename": "dir",
                "listing": [
                    {"class": "File", "location": "s3://in/one.txt"},
                    {"class": "File", "basename": "two.txt", "contents": "2"},
                ],
            },
        },
        objects={"s3://in/one.txt": b"1"},
    ),
    case(
        "initial-work-directory",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          InlineJavascriptRequirement: {}
          InitialWorkDirRequirement:
            listing:
              - {entryname: run.sh, entry: 'echo "hello $(inputs.who)"'}
              - {entryname: "sub/config.json", entry: "$({who: inputs.who, n: [1, 2]})"}
              - {entryname: renamed.txt, entry: $(inputs.f)}
              - {entryname: dir, entry: $(inputs.d)}
        baseCommand: [sh, -c, "sh run.sh; cat sub/config.json renamed.txt dir/a"]
        inputs: {who: string, f: File, d: Directory}
        stdout: out.txt
        outputs: {out: stdout, again: {type: File, outputBinding: {glob: renamed.txt}}}
        """,
        {
            "who": "you",
            "f": {"class": "File", "location": "s3://in/data.txt"},
            "d": {"class": "Directory", "location": "s3://in/dd/"},
        },
        objects={"s3://in/data.txt": b"data\n", "s3://in/dd/a": b"in a directory\n"},
    ),
    case(
        "writable-work-directory",
        """
        cwlVersion: v1.1
        class: CommandLineTool
        requirements:
          InitialWorkDirRequirement:
            listing:
              - {entry: $(inputs.f), writable: true}
              - {entry: $(inputs.d), entryname: changed, writable: true}
              - {entryname: made.txt, entry: "made ", writable: true}
        baseCommand: [sh, -c, "echo more >> data.txt; rm changed/a; echo new > changed/b; echo more >> made.txt"]
        inputs: {f: File, d: Directory}
        outputs:
          f2: {type: File, outputBinding: {glob: data.txt}}
          d2: {type: Directory, outputBinding: {glob: changed}}
          made: {type: File, outputBinding: {glob: made.txt}}
          original: {type: File, outputBinding: {outputEval: $(inputs.f)}}
        """,
        {
            "f": {"class": "File", "location": "s3://in/data.txt"},
            "d": {"class": "Directory", "location": "s3://in/dd/"},
        },
        objects={"s3://in/data.txt": b"data\n", "s3://in/dd/a": b"a", "s3://in/dd/c": b"c"},
    ),
    case(
        "work-directory-from-an-expression",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements:
          InlineJavascriptRequirement: {}
          InitialWorkDirRequirement:
            listing: |
              ${
                var all = inputs.files.map(function (f, i) { f.basename = "f" + i + ".txt"; return f; });
                all.push({class: "File", basename: "extra.txt", contents: "extra"});
                return all;
              }
        baseCommand: [sh, -c, "cat f0.txt f1.txt extra.txt"]
        inputs: {files: "File[]"}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"files": [{"class": "File", "location": "s3://in/x"}, {"class": "File", "location": "s3://in/y"}]},
        objects={"s3://in/x": b"first ", "s3://in/y": b"second "},
    ),
    case(
        "files-of-one-name",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "mkdir a b c; echo 1 > a/x.txt; echo 2 > b/x.txt; echo 3 > c/x.txt"]
        inputs: []
        outputs:
          all: {type: "File[]", outputBinding: {glob: "*/x.txt"}}
          first: {type: File, outputBinding: {glob: a/x.txt}}
        """,
    ),
    case(
        "inputs-of-one-name",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: cat
        inputs: {all: {type: "File[]", inputBinding: {position: 1}}}
        stdout: out.txt
        outputs: {out: stdout}
        """,
        {"all": [{"class": "File", "location": "s3://in/1/x"}, {"class": "File", "location": "s3://in/2/x"}]},
        objects={"s3://in/1/x": b"one", "s3://in/2/x": b"two"},
    ),
    case(
        "names-with-spaces-and-signs",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, 'cat "$1" > "out of $(inputs.f.basename)"', x]
        inputs: {f: {type: File, inputBinding: {position: 1}}}
        outputs: {o: {type: File, outputBinding: {glob: "out of *"}}}
        """,
        {"f": {"class": "File", "location": "s3://in/a b+c=ü.txt"}},
        objects={"s3://in/a b+c=ü.txt": b"odd"},
    ),
    case(
        "input-handed-on-as-output",
        """
        cwlVersion: v1.2
        class: ExpressionTool
        requirements: {InlineJavascriptRequirement: {}}
        inputs: {f: File, d: Directory}
        outputs: {f2: File, d2: Directory}
        expression: "${return {f2: inputs.f, d2: inputs.d};}"
        """,
        {
            "f": {"class": "File", "location": "s3://in/same.txt"},
            "d": {"class": "Directory", "location": "s3://in/dd/"},
        },
        objects={"s3://in/same.txt": b"same", "s3://in/dd/q": b"q"},
    ),
    case(
        "links-as-outputs",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "echo real > real.txt; ln -s real.txt link.txt"]
        inputs: []
        outputs: {own: {type: File, outputBinding: {glob: link.txt}}}
        """,
    ),
    case(
        "empty-directories-and-files",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        baseCommand: [sh, -c, "touch empty; mkdir -p d; touch d/e"]
        inputs: []
        outputs: {f: {type: File, outputBinding: {glob: empty}}, d: {type: Directory, outputBinding: {glob: d}}}
        """,
    ),
]
