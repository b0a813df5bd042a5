include { INDEX_REFERENCE } from '../modules/local/index_reference/main'
include { BOWTIE2_ALIGN } from '../modules/local/bowtie2_align/main'
include { SORT_ALIGNMENTS } from '../modules/local/sort_alignments/main'
include { CALL_BY_REGION } from '../subworkflows/local/call_by_region'

workflow CALL_VARIANTS {
    take:
    samples // [meta, reads_1, reads_2]
    reference // FASTA, may be compressed

    main:
    INDEX_REFERENCE(reference, params.regions)
    BOWTIE2_ALIGN(samples, INDEX_REFERENCE.out.index.collect())
    SORT_ALIGNMENTS(BOWTIE2_ALIGN.out.alignments)
    regions = INDEX_REFERENCE.out.spans.splitText { it.trim() }
    CALL_BY_REGION(SORT_ALIGNMENTS.out.bam, INDEX_REFERENCE.out.fasta.first(), regions)

    emit:
    counts = CALL_BY_REGION.out.counts // [meta, text]
}
