process STORE { storeDir "${params.outdir}/store"
  input: val x
  output: path "stored-${x}.txt"
  script: "echo $x > stored-${x}.txt" }
process FIRST { output: path 'first.txt'
  script: "mkdir -p ${params.outdir}/store; echo old > ${params.outdir}/store/stored-b.txt; touch first.txt" }
workflow { FIRST(); STORE(FIRST.out.map { ['a', 'b'] }.flatten()); STORE.out.view { "OUT: ${it.text.trim()}" } }
