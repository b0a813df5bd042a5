process CALL_REGION {
    tag "$meta.id $region"
    label 'process_single'

    input:
    tuple val(meta), path(bam), path(bam_index), val(region), val(number)
    tuple path(fasta), path(fasta_index)

    output:
    tuple val(meta), val(number), path("calls-${number}.vcf.gz"), emit: calls

    script:
    """
    bcftools mpileup -Ou --regions '$region' --fasta-ref $fasta $bam |
        bcftools call --multiallelic-caller --variants-only --ploidy 1 -Oz -o calls-${number}.vcf.gz
    """
}
