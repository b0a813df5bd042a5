cwlVersion: v1.2
class: CommandLineTool
requirements:
  ResourceRequirement: {coresMin: $(inputs.cpus), ramMin: 1024}
  InitialWorkDirRequirement:
    listing:
      - entryname: align.sh
        entry: |
          set -euo pipefail
          bowtie2 --threads $(inputs.cpus) --reorder --no-unal --rg-id "$1" --rg SM:"$1" -x "$2/reference" -1 "$3" -2 "$4" \\
            2> "$1.bowtie2.txt" | samtools view -b -o alignments.bam -
baseCommand: [bash, align.sh]
inputs:
  sample: {type: string, inputBinding: {position: 1}}
  index: {type: Directory, inputBinding: {position: 2}}
  reads_1: {type: File, inputBinding: {position: 3}}
  reads_2: {type: File, inputBinding: {position: 4}}
  cpus: int
outputs:
  alignments: {type: File, outputBinding: {glob: alignments.bam}}
  summary: {type: File, outputBinding: {glob: $(inputs.sample).bowtie2.txt}}
