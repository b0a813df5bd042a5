version 1.1

# From paired reads to variants: index, align, sort, call by region, join. Needs bowtie2, samtools and bcftools on the host
# (Debian: apt-get install bowtie2 samtools bcftools), or `image` with them.
workflow call_variants {
  input {
    File reference
    File reads_1
    File reads_2
    String sample = "sample"
    Int regions = 3
    Int align_cpus = 2
  }

  call index_reference { input: reference, regions }
  call align {
    input: index = index_reference.index, reads_1, reads_2, sample, cpus = align_cpus
  }
  call sort_alignments { input: alignments = align.alignments, sample }

  scatter (region in index_reference.spans) {
    call call_region {
      input:
        fasta = index_reference.fasta,
        fasta_index = index_reference.fasta_index,
        bam = sort_alignments.bam,
        bam_index = sort_alignments.bam_index,
        region
    }
  }
  call join_regions { input: parts = call_region.calls, sample }

  output {
    File bam = sort_alignments.bam
    File bam_index = sort_alignments.bam_index
    File flagstat = sort_alignments.flagstat
    File alignment_summary = align.summary
    File variants = join_regions.variants
    File variants_index = join_regions.variants_index
    File variant_stats = join_regions.stats
    Int variant_count = join_regions.count
  }
}

task index_reference {
  input {
    File reference
    Int regions
  }
  command <<<
    set -euo pipefail
    gzip -cdf "~{reference}" > reference.fa
    bowtie2-build --quiet reference.fa reference
    samtools faidx reference.fa
    awk -v regions=~{regions} '{
      for (i = 0; i < regions; i++) printf "%s:%d-%d\n", $1, int($2 * i / regions) + 1, int($2 * (i + 1) / regions)
    }' reference.fa.fai > spans.txt
  >>>
  output {
    Array[File] index = ["reference.1.bt2", "reference.2.bt2", "reference.3.bt2", "reference.4.bt2", "reference.rev.1.bt2", "reference.rev.2.bt2"]
    File fasta = "reference.fa"
    File fasta_index = "reference.fa.fai"
    Array[String] spans = read_lines("spans.txt")
  }
}

task align {
  input {
    Array[File] index
    File reads_1
    File reads_2
    String sample
    Int cpus
  }
  command <<<
    set -euo pipefail
    # The six files of the index must lie in one folder under their own names; inputs need not.
    ln -s ~{sep(" ", quote(index))} .
    bowtie2 --threads ~{cpus} --reorder --no-unal --rg-id ~{sample} --rg SM:~{sample} \
      -x reference -1 "~{reads_1}" -2 "~{reads_2}" \
      2> "~{sample}.bowtie2.txt" | samtools view -b -o alignments.bam -
  >>>
  runtime {
    cpu: cpus
    memory: "1 GiB"
  }
  output {
    File alignments = "alignments.bam"
    File summary = "~{sample}.bowtie2.txt"
  }
}

task sort_alignments {
  input {
    File alignments
    String sample
  }
  command <<<
    set -euo pipefail
    samtools sort -m 256M -T sorting -o "~{sample}.bam" "~{alignments}"
    samtools index "~{sample}.bam"
    samtools flagstat "~{sample}.bam" > "~{sample}.flagstat.txt"
  >>>
  output {
    File bam = "~{sample}.bam"
    File bam_index = "~{sample}.bam.bai"
    File flagstat = "~{sample}.flagstat.txt"
  }
}

task call_region {
  input {
    File fasta
    File fasta_index
    File bam
    File bam_index
    String region
  }
  command <<<
    set -euo pipefail
    # The index of a FASTA or BAM file must lie beside it, which inputs from two tasks need not.
    ln -s "~{fasta}" reference.fa
    ln -s "~{fasta_index}" reference.fa.fai
    ln -s "~{bam}" sample.bam
    ln -s "~{bam_index}" sample.bam.bai
    bcftools mpileup -Ou --regions '~{region}' --fasta-ref reference.fa sample.bam |
      bcftools call --multiallelic-caller --variants-only --ploidy 1 -Oz -o calls.vcf.gz
  >>>
  output {
    File calls = "calls.vcf.gz"
  }
}

task join_regions {
  input {
    Array[File] parts
    String sample
  }
  command <<<
    set -euo pipefail
    bcftools concat -Oz -o "~{sample}.vcf.gz" ~{sep(" ", quote(parts))}
    bcftools index --tbi "~{sample}.vcf.gz"
    bcftools stats "~{sample}.vcf.gz" > "~{sample}.stats.txt"
    bcftools view --no-header "~{sample}.vcf.gz" | wc -l > count.txt
  >>>
  output {
    File variants = "~{sample}.vcf.gz"
    File variants_index = "~{sample}.vcf.gz.tbi"
    File stats = "~{sample}.stats.txt"
    Int count = read_int("count.txt")
  }
}
