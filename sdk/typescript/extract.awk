# Writes each piece of TypeScript of a page that has a name, as in "```ts five-lines", to FOLDER/NAME.ts.
/^```ts [a-z-]+$/ { file = FOLDER "/" $2 ".ts"; next }
/^```$/ { if (file) close(file); file = ""; next }
file { print > file }
