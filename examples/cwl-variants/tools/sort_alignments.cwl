cwlVersion: v1.2
class: CommandLineTool
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: sort.sh
        entry: |
          set -eu
          samtools sort -m 256M -T sorting -o "$1.bam" "$2"
          samtools index "$1.bam"
          samtools flagstat "$1.bam" > "$1.flagstat.txt"
baseCommand: [bash, sort.sh]
inputs:
  sample: {type: string, inputBinding: {position: 1}}
  alignments: {type: File, inputBinding: {position: 2}}
outputs:
  bam: {type: File, secondaryFiles: [.bai], outputBinding: {glob: $(inputs.sample).bam}}
  flagstat: {type: File, outputBinding: {glob: $(inputs.sample).flagstat.txt}}
