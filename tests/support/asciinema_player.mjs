// Plays a recording with the official asciinema player, without a page: what its terminal would
// be given, up to the end, as JSON. node asciinema_player.mjs FOLDER_OF_THE_PACKAGE FILE
import { readdirSync, readFileSync } from "node:fs";

const [folder, file] = process.argv.slice(2);
const core = readdirSync(`${folder}/dist`).find((name) => /^core-.*\.js$/.test(name));
const { C: Core } = await import(`${folder}/dist/${core}`);

const logger = { log() {}, debug() {}, info() {}, warn() {}, error() {} };
const source = { driver: "recording", data: () => readFileSync(file, "utf8") };
const player = new Core(source, { logger, speed: 1 });
const found = { output: "", resizes: [], markers: [] };
player.addEventListener("output", (data) => (found.output += [data].flat().join("")));
player.addEventListener("reset", () => (found.output = ""));
player.addEventListener("resize", (event) => found.resizes.push([event.cols, event.rows]));
player.addEventListener("error", (event) => { throw event; });
player.terminalReady();
await player.init();
await player.seek("100%");
console.log(JSON.stringify({ ...found, duration: player.getDuration() }));
process.exit(0);
