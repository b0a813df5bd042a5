process FORGETS { output: path 'nope.txt'
  script: "true" }
workflow { FORGETS() }
