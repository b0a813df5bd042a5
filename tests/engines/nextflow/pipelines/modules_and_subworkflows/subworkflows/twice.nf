include { SAY as AGAIN } from '../modules/local/say/main'
def shout(text) { text.toUpperCase() }
workflow TWICE {
  take: files
  main:
    AGAIN(files.map { it.baseName }, 'again')
    both = files.mix(AGAIN.out.text)
  emit:
    all = both
}
