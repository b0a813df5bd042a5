cwlVersion: v1.2
class: Workflow
doc: |
  From paired reads to variants: index, align, sort, call by region, join. The same pipeline as ../wdl-variants, with the same results.
  Needs bowtie2, samtools and bcftools on the host (Debian: apt-get install bowtie2 samtools bcftools). Needs no JavaScript.
requirements:
  ScatterFeatureRequirement: {}

inputs:
  reference: {type: File, label: "FASTA, plain or gzip"}
  reads_1: {type: File, label: "First reads of the pairs, FASTQ"}
  reads_2: {type: File, label: "Second reads of the pairs, FASTQ"}
  sample: {type: string, default: sample}
  regions: {type: int, default: 3, label: Regions that each chromosome is called in}
  align_cpus: {type: int, default: 2}

steps:
  index_reference:
    run: tools/index_reference.cwl
    in: {reference: reference, regions: regions}
    out: [index, fasta, spans]
  align:
    run: tools/align.cwl
    in: {index: index_reference/index, reads_1: reads_1, reads_2: reads_2, sample: sample, cpus: align_cpus}
    out: [alignments, summary]
  sort_alignments:
    run: tools/sort_alignments.cwl
    in: {alignments: align/alignments, sample: sample}
    out: [bam, flagstat]
  call_region:
    run: tools/call_region.cwl
    scatter: region
    in: {fasta: index_reference/fasta, bam: sort_alignments/bam, region: index_reference/spans}
    out: [calls]
  join_regions:
    run: tools/join_regions.cwl
    in: {parts: call_region/calls, sample: sample}
    out: [variants, stats, count]

outputs:
  bam: {type: File, outputSource: sort_alignments/bam, secondaryFiles: [.bai]}
  flagstat: {type: File, outputSource: sort_alignments/flagstat}
  alignment_summary: {type: File, outputSource: align/summary}
  variants: {type: File, outputSource: join_regions/variants, secondaryFiles: [.tbi]}
  variant_stats: {type: File, outputSource: join_regions/stats}
  variant_count: {type: int, outputSource: join_regions/count}
