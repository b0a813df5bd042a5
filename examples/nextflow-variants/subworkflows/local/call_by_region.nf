include { CALL_REGION } from '../../modules/local/call_region/main'
include { JOIN_REGIONS } from '../../modules/local/join_regions/main'

workflow CALL_BY_REGION {
    take:
    bams // [meta, bam, index]
    fasta // [fasta, index]
    regions // name:from-to, in order

    main:
    numbered = regions.toList().flatMap { all -> all.withIndex() }
    CALL_REGION(bams.combine(numbered), fasta)
    parts = CALL_REGION.out.calls.groupTuple().map { meta, numbers, calls ->
        [meta, [numbers, calls].transpose().sort { it[0] }.collect { it[1] }]
    }
    JOIN_REGIONS(parts)

    emit:
    counts = JOIN_REGIONS.out.count
}
