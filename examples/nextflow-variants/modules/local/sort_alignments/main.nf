process SORT_ALIGNMENTS {
    tag "$meta.id"
    label 'process_single'

    input:
    tuple val(meta), path(alignments)

    output:
    tuple val(meta), path("${meta.id}.bam"), path("${meta.id}.bam.bai"), emit: bam
    path '*.flagstat.txt', emit: flagstat

    script:
    """
    samtools sort -m 256M -T sorting -o ${meta.id}.bam $alignments
    samtools index ${meta.id}.bam
    samtools flagstat ${meta.id}.bam > ${meta.id}.flagstat.txt
    """
}
