process JOIN_REGIONS {
    tag "$meta.id"
    label 'process_single'

    input:
    tuple val(meta), path(parts)

    output:
    tuple val(meta), path("${meta.id}.vcf.gz"), path("${meta.id}.vcf.gz.tbi"), emit: variants
    path '*.stats.txt', emit: stats
    tuple val(meta), stdout, emit: count

    script:
    """
    bcftools concat -Oz -o ${meta.id}.vcf.gz $parts
    bcftools index --tbi ${meta.id}.vcf.gz
    bcftools stats ${meta.id}.vcf.gz > ${meta.id}.stats.txt
    bcftools view --no-header ${meta.id}.vcf.gz | wc -l
    """
}
