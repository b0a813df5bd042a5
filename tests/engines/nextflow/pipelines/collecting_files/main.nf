process MAKE { input: val n
  output: path 'part.txt'
  script: "printf 'part %s\\n' $n > part.txt" }
workflow {
  MAKE(Channel.of(1, 2, 3))
  MAKE.out.collectFile(name: 'all.txt', storeDir: params.outdir, sort: { it.text }).view { "OUT: ${it.name} ${it.countLines()}" }
  Channel.of('beta 2', 'alpha 1', 'beta 1').collectFile(storeDir: "${params.outdir}/by", newLine: true, sort: true) { ["${it.split()[0]}.txt", it] }.view { "OUT: ${it.name}" }
}
