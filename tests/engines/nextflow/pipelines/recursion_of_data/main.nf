process LIST { output: path '*.txt'
  script: "for i in 1 2 3; do echo \$i > \$i.txt; done" }
process SQUARE { maxForks 2; tag "$f.baseName"
  input: path f
  output: tuple val(f.baseName), path('sq')
  script: "n=\$(cat $f); echo \$((n * n)) > sq" }
process SUM { publishDir params.outdir, mode: 'copy'
  input: path 'part?'
  output: path 'sum.txt'
  script: "cat part* | paste -sd+ | tr -d '\\n' > expression; echo \$((\$(cat expression))) > sum.txt" }
workflow { LIST(); SQUARE(LIST.out.flatten()); SUM(SQUARE.out.map { it[1] }.collect()); SUM.out.view { "OUT: ${it.text.trim()}" } }
