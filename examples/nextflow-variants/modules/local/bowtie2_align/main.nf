process BOWTIE2_ALIGN {
    tag "$meta.id"
    label 'process_medium'

    input:
    tuple val(meta), path(reads_1), path(reads_2)
    path index

    output:
    tuple val(meta), path('alignments.bam'), emit: alignments
    path '*.bowtie2.txt', emit: summary

    script:
    def args = task.ext.args ?: ''
    """
    bowtie2 $args --threads $task.cpus --rg-id $meta.id --rg SM:$meta.id \
        -x reference -1 $reads_1 -2 $reads_2 \
        2> ${meta.id}.bowtie2.txt | samtools view -b -o alignments.bam -
    """
}
