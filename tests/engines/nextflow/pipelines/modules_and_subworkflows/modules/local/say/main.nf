process SAY {
  tag "$word"
  input: val word; val suffix
  output: path '*.txt', emit: text
  script: "echo '$word $suffix' > ${word}-${suffix}.txt"
}
