process CHECK { publishDir params.outdir; debug true
  output: path 'check.txt'
  script: "echo \"\$BEFORE\" > check.txt; echo 'OUT: said by the task'" }
process SCRATCH { scratch true; publishDir params.outdir
  output: path 'scratch.txt'
  script: "case \$PWD in /tmp/*) echo scratch > scratch.txt;; esac" }
process PYTHON { publishDir params.outdir
  output: path 'python.txt'
  script: """
  #!/usr/bin/env perl
  open(my \$f, '>', 'python.txt'); print \$f "perl\\n";
  """ }
workflow { CHECK(); SCRATCH(); PYTHON() }
