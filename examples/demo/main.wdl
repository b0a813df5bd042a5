version 1.1

# What a genome looks like at first sight: composition along the sequence, open reading frames on both strands, frequent words.
# Needs nothing but bash, awk and gzip.
workflow genome_portrait {
  input {
    File genome
    Int chunks = 8
    Int window_bp = 500
    Int shortest_orf_codons = 100
    Array[Int] frames = [1, 2, 3, -1, -2, -3]
    Array[Int] word_lengths = [2, 4, 6]
  }

  call read_genome { input: genome }

  scatter (chunk in range(chunks)) {
    call composition { input: sequence = read_genome.sequence, chunk, chunks, window_bp }
  }
  scatter (frame in frames) {
    call find_orfs { input: sequence = read_genome.sequence, frame, shortest_orf_codons }
  }
  scatter (length in word_lengths) {
    call count_words { input: sequence = read_genome.sequence, length }
  }

  call report {
    input:
      name = read_genome.name,
      length_bp = read_genome.length_bp,
      gc_percent = read_genome.gc_percent,
      compositions = composition.table,
      orfs = find_orfs.table,
      words = count_words.table
  }

  output {
    String name = read_genome.name
    Int length_bp = read_genome.length_bp
    Float gc_percent = read_genome.gc_percent
    Int orf_count = report.orf_count
    File text = report.text
    File composition_table = report.composition_table
    File orf_table = report.orf_table
    Array[File] word_tables = count_words.table
  }
}

task read_genome {
  input {
    File genome
  }
  command <<<
    set -euo pipefail
    gzip -cd "~{genome}" > genome.fa
    awk 'NR == 1 { sub(/^>/, ""); print > "name.txt"; next } /^>/ { exit } { printf "%s", toupper($0) } END { print "" }' genome.fa > sequence.txt
    awk '{ print length($0) > "length.txt"; gc = gsub(/[GC]/, ""); at = gsub(/[AT]/, ""); printf "%.2f\n", 100 * gc / (gc + at) }' sequence.txt > gc.txt
  >>>
  output {
    File sequence = "sequence.txt"
    String name = read_string("name.txt")
    Int length_bp = read_int("length.txt")
    Float gc_percent = read_float("gc.txt")
  }
}

# GC content and skew of each window whose start lies in this part of the sequence.
task composition {
  input {
    File sequence
    Int chunk
    Int chunks
    Int window_bp
  }
  command <<<
    set -euo pipefail
    awk -v chunk=~{chunk} -v chunks=~{chunks} -v window=~{window_bp} '{
      windows = int((length($0) + window - 1) / window)
      first = int(windows * chunk / chunks); last = int(windows * (chunk + 1) / chunks)
      for (i = first; i < last; i++) {
        piece = substr($0, i * window + 1, window); size = length(piece)
        g = gsub(/G/, "", piece); c = gsub(/C/, "", piece)
        printf "%d\t%d\t%.2f\t%.4f\n", i * window + 1, i * window + size, 100 * (g + c) / size, g + c ? (g - c) / (g + c) : 0
      }
    }' "~{sequence}" > composition-~{chunk}.tsv
  >>>
  output {
    File table = "composition-~{chunk}.tsv"
  }
}

# ATG to the next stop codon in one of six frames; start and end count on the forward strand, from 1.
task find_orfs {
  input {
    File sequence
    Int frame
    Int shortest_orf_codons
  }
  command <<<
    set -euo pipefail
    awk -v frame=~{frame} -v shortest=~{shortest_orf_codons} '
      function complement(text,    result, i) {
        result = ""
        for (i = length(text); i > 0; i--) result = result pair[substr(text, i, 1)]
        return result
      }
      BEGIN { pair["A"] = "T"; pair["C"] = "G"; pair["G"] = "C"; pair["T"] = "A"; pair["N"] = "N"; OFS = "\t" }
      {
        size = length($0); text = frame > 0 ? $0 : complement($0); offset = frame > 0 ? frame : -frame; start = 0
        for (i = offset; i + 2 <= size; i += 3) {
          codon = substr(text, i, 3)
          if (!start && codon == "ATG") start = i
          if (codon != "TAA" && codon != "TAG" && codon != "TGA") continue
          codons = (i - start) / 3
          if (start && codons >= shortest) {
            if (frame > 0) print start, i + 2, "+", offset, codons
            else print size - i - 1, size - start + 1, "-", offset, codons
          }
          start = 0
        }
      }' "~{sequence}" > orfs~{frame}.tsv
  >>>
  output {
    File table = "orfs~{frame}.tsv"
  }
}

task count_words {
  input {
    File sequence
    Int length
  }
  command <<<
    set -euo pipefail
    awk -v k=~{length} '{ for (i = 1; i + k - 1 <= length($0); i++) count[substr($0, i, k)]++ }
      END { for (word in count) print count[word] "\t" word }' "~{sequence}" | LC_ALL=C sort -k1,1nr -k2,2 > words-~{length}.tsv
  >>>
  output {
    File table = "words-~{length}.tsv"
  }
}

task report {
  input {
    String name
    Int length_bp
    Float gc_percent
    Array[File] compositions
    Array[File] orfs
    Array[File] words
  }
  command <<<
    set -euo pipefail
    printf 'start\tend\tgc_percent\tgc_skew\n' > composition.tsv
    LC_ALL=C sort -k1,1n ~{sep(" ", quote(compositions))} >> composition.tsv
    printf 'start\tend\tstrand\tframe\tcodons\n' > orfs.tsv
    LC_ALL=C sort -k1,1n -k2,2n ~{sep(" ", quote(orfs))} >> orfs.tsv
    awk 'END { print NR - 1 }' orfs.tsv > orf_count.txt
    {
      cat '~{write_lines([name])}'
      printf '%d bp, GC %.2f %%\n' ~{length_bp} ~{gc_percent}
      echo
      echo "open reading frames: $(cat orf_count.txt); the five longest"
      tail -n +2 orfs.tsv | LC_ALL=C sort -k5,5nr -k1,1n | awk 'NR <= 5 { printf "  %6d..%-6d %s  %4d codons\n", $1, $2, $3, $5 }'
      echo
      echo 'GC content along the sequence (each # is 2 %, 20 stretches)'
      awk 'NR > 1 { start[++n] = $1; gc[n] = $3 } END {
        for (part = 0; part < 20; part++) {
          from = int(n * part / 20) + 1; to = int(n * (part + 1) / 20); sum = 0
          for (i = from; i <= to; i++) sum += gc[i]
          if (to < from) continue
          mean = sum / (to - from + 1); bar = ""
          for (i = 0; i < mean / 2; i++) bar = bar "#"
          printf "  %6d  %5.1f %s\n", start[from], mean, bar
        }
      }' composition.tsv
      echo
      echo 'the most frequent word of each length'
      for table in ~{sep(" ", quote(words))}; do
        awk 'NR == 1 { printf "  %-8s %6d times\n", $2, $1; exit }' "$table"
      done
    } > report.txt
  >>>
  output {
    Int orf_count = read_int("orf_count.txt")
    File text = "report.txt"
    File composition_table = "composition.tsv"
    File orf_table = "orfs.tsv"
  }
}
