cwlVersion: v1.2
class: CommandLineTool
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: call.sh
        entry: |
          set -euo pipefail
          bcftools mpileup -Ou --regions "$1" --fasta-ref "$2" "$3" |
            bcftools call --multiallelic-caller --variants-only --ploidy 1 -Oz -o calls.vcf.gz
baseCommand: [bash, call.sh]
inputs:
  region: {type: string, inputBinding: {position: 1}}
  fasta: {type: File, secondaryFiles: [.fai], inputBinding: {position: 2}}
  bam: {type: File, secondaryFiles: [.bai], inputBinding: {position: 3}}
outputs:
  calls: {type: File, outputBinding: {glob: calls.vcf.gz}}
