process INDEX_REFERENCE {
    label 'process_single'

    input:
    path reference, stageAs: 'given/*'
    val regions

    output:
    path 'reference*.bt2', emit: index
    tuple path('reference.fa'), path('reference.fa.fai'), emit: fasta
    path 'spans.txt', emit: spans

    script:
    """
    gzip -cdf $reference > reference.fa
    bowtie2-build --quiet reference.fa reference
    samtools faidx reference.fa
    regions.awk -v regions=$regions reference.fa.fai > spans.txt
    """
}
