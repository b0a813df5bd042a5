cwlVersion: v1.2
class: CommandLineTool
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: outputs.awk
        entry: |
          END {
            printf "{\"count\": %d, \"stats\": {\"class\": \"File\", \"path\": \"%s.stats.txt\"}, ", NR, name
            printf "\"variants\": {\"class\": \"File\", \"path\": \"%s.vcf.gz\", ", name
            printf "\"secondaryFiles\": [{\"class\": \"File\", \"path\": \"%s.vcf.gz.tbi\"}]}}", name
          }
      - entryname: join.sh
        entry: |
          set -euo pipefail
          name="$1"
          shift
          bcftools concat -Oz -o "$name.vcf.gz" "$@"
          bcftools index --tbi "$name.vcf.gz"
          bcftools stats "$name.vcf.gz" > "$name.stats.txt"
          bcftools view --no-header "$name.vcf.gz" | awk -v name="$name" -f outputs.awk > cwl.output.json
baseCommand: [bash, join.sh]
inputs:
  sample: {type: string, inputBinding: {position: 1}}
  parts: {type: "File[]", inputBinding: {position: 2}}
outputs:
  variants: {type: File, secondaryFiles: [.tbi]}
  stats: File
  count: int
