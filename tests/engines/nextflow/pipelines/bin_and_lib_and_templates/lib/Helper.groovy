class Helper { static String twice(String text) { text + text } }
