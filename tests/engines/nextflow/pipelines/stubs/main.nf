process REAL { publishDir params.outdir
  output: path 'result.txt'
  script: "echo real > result.txt"
  stub: "echo stub > result.txt" }
process BARE { publishDir params.outdir
  output: path 'bare.txt'
  script: "echo real > bare.txt" }
workflow { REAL(); BARE() }
