import { render } from "preact";
import { Shell } from "./app/shell.tsx";
import "./style/main.css";

render(<Shell />, document.getElementById("console")!);
