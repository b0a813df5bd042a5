cwlVersion: v1.2
class: CommandLineTool
doc: An index for bowtie2, one for samtools, and the spans of each chromosome.
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: spans.awk
        entry: |
          BEGIN { printf "{\"spans\": [" }
          {
            for (i = 0; i < regions; i++) {
              printf "%s\"%s:%d-%d\"", (n++ ? ", " : ""), $1, int($2 * i / regions) + 1, int($2 * (i + 1) / regions)
            }
          }
          END {
            printf "], \"fasta\": {\"class\": \"File\", \"path\": \"reference.fa\", \"secondaryFiles\": ["
            printf "{\"class\": \"File\", \"path\": \"reference.fa.fai\"}]}, \"index\": {\"class\": \"Directory\", \"path\": \"index\"}}"
          }
      - entryname: index.sh
        entry: |
          set -eu
          gzip -cdf "$1" > reference.fa
          mkdir index
          bowtie2-build --quiet reference.fa index/reference
          samtools faidx reference.fa
          awk -v regions="$2" -f spans.awk reference.fa.fai > cwl.output.json
baseCommand: [bash, index.sh]
inputs:
  reference: {type: File, inputBinding: {position: 1}}
  regions: {type: int, inputBinding: {position: 2}}
outputs:
  index: Directory
  fasta: {type: File, secondaryFiles: [.fai]}
  spans: string[]
