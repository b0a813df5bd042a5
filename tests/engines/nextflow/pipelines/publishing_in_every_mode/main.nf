process COPY { publishDir "${params.outdir}/copy", mode: 'copy'
  output: path 'file.txt'; path 'folder'
  script: "echo copy > file.txt; mkdir folder; echo in > folder/in.txt; ln -s in.txt folder/link.txt" }
process LINK { publishDir "${params.outdir}/link", mode: 'link'
  output: path 'file.txt'; path 'folder'
  script: "echo link > file.txt; mkdir folder; echo in > folder/in.txt; ln -s in.txt folder/link.txt" }
process SYMLINK { publishDir "${params.outdir}/symlink", mode: 'symlink'
  output: path 'file.txt'; path 'folder'
  script: "echo symlink > file.txt; mkdir folder; echo in > folder/in.txt; ln -s in.txt folder/link.txt" }
process RELLINK { publishDir "${params.outdir}/rellink", mode: 'rellink'
  output: path 'file.txt'; path 'folder'
  script: "echo rellink > file.txt; mkdir folder; echo in > folder/in.txt; ln -s in.txt folder/link.txt" }
process COPYNOFOLLOW { publishDir "${params.outdir}/copyNoFollow", mode: 'copyNoFollow'
  output: path 'file.txt'; path 'folder'
  script: "echo copyNoFollow > file.txt; mkdir folder; echo in > folder/in.txt; ln -s in.txt folder/link.txt" }
process MOVE { publishDir "${params.outdir}/move", mode: 'move'
  output: path 'file.txt'
  script: "echo move > file.txt" }
process CHOSEN {
  publishDir "${params.outdir}/chosen", pattern: '*.keep', saveAs: { "renamed-$it" }
  publishDir "${params.outdir}/second", saveAs: { it.endsWith('.drop') ? null : it }
  publishDir "${params.outdir}/off", enabled: false
  output: path '*.{keep,drop}'
  script: "touch a.keep b.keep c.drop" }
workflow { COPY(); LINK(); SYMLINK(); RELLINK(); COPYNOFOLLOW(); MOVE(); CHOSEN() }
