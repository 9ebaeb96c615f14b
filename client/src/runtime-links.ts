import "./runtime.ts";
import { decorateLinks } from "./decorateLinks.ts";

/*
 * The runtime, with links to other sites decorated: in place of runtime.js, since
 * a link may be followed before a script of its own would be there. Hosts stand
 * behind what the runtime is told (#name,file,host,host).
 */
decorateLinks(...(import.meta.url.split("#")[1] || "").split(",").slice(2));
