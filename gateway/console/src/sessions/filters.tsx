// The filters above the list. Their state is the address, so a filtered list can be kept and shared.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isCanceled, sessions } from "../app/api.ts";
import { go, route, setQuery } from "../app/route.ts";
import { Segments } from "../parts/basics.tsx";
import { isNarrow } from "../parts/media.ts";
import { FIELDS, PERIODS, STATUSES, type Status, isFiltered } from "./filter.ts";

const TYPING_MS = 250;
const SUGGESTIONS = 50;

export function Filters() {
  const { query } = route.value;
  const isOpen = useSignal(false);
  const set = (field: string, value: string) =>
    setQuery((query) => (value ? query.set(field, value) : query.delete(field)));
  const clear = () => setQuery((query) => FIELDS.forEach((field) => query.delete(field)));
  const period = query.get("period") ?? "";
  // Those that a phone hides until they are asked for.
  const hidden = ["task", "type", "tag", "period"].flatMap((field) => query.getAll(field)).length;
  return (
    <search class="filters">
      <div class="filter-row">
        <Field id="search" name="name" label="Name" placeholder={isNarrow.value ? "Name or id" : "Name or id  /"} />
        <Segments
          label="Status"
          options={STATUSES}
          value={(query.get("status") ?? "") as Status}
          onChange={(value) => set("status", value)}
        />
        {isNarrow.value && (
          <button type="button" aria-expanded={isOpen.value} onClick={() => (isOpen.value = !isOpen.value)}>
            Filters{hidden > 0 && ` (${hidden})`}
          </button>
        )}
        {isFiltered(query) && (
          <button type="button" class="quiet" onClick={clear}>
            Clear
          </button>
        )}
      </div>
      {(!isNarrow.value || isOpen.value) && (
        <div class="filter-row">
          <Field name="task" label="Task" />
          <Field name="type" label="Type" />
          <Tags />
          <select aria-label="Created" value={period} onChange={(event) => set("period", event.currentTarget.value)}>
            {PERIODS.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
          {period === "custom" && (
            <>
              <input
                type="datetime-local"
                aria-label="Created from"
                value={query.get("from") ?? ""}
                onChange={(event) => set("from", event.currentTarget.value)}
              />
              <input
                type="datetime-local"
                aria-label="Created to"
                value={query.get("to") ?? ""}
                onChange={(event) => set("to", event.currentTarget.value)}
              />
            </>
          )}
        </div>
      )}
    </search>
  );
}

/** A field that filters while one types, a moment after the last letter. */
function Field({
  name,
  label,
  id,
  placeholder = label,
}: {
  name: string;
  label: string;
  id?: string;
  placeholder?: string;
}) {
  const inAddress = route.value.query.get(name) ?? "";
  const text = useSignal(inAddress);
  useEffect(() => void (text.value = inAddress), [inAddress]);
  useEffect(() => {
    if (text.value === inAddress) return;
    const set = () => setQuery((query) => (text.value ? query.set(name, text.value) : query.delete(name)));
    const timer = setTimeout(set, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text.value]);
  const enter = (event: KeyboardEvent) => {
    if (event.key === "Enter" && text.value.startsWith("session_")) go(["sessions", text.value]);
  };
  return (
    <input
      id={id}
      type="search"
      aria-label={label}
      placeholder={placeholder}
      value={text.value}
      onInput={(event) => (text.value = event.currentTarget.value)}
      onKeyDown={enter}
      autoComplete="off"
      spellcheck={false}
    />
  );
}

/** Any of some tags; those in use are suggested. */
function Tags() {
  const chosen = route.value.query.getAll("tag");
  const text = useSignal("");
  const found = useSignal<{ tag: string; sessions: bigint }[]>([]);
  useEffect(() => {
    const over = new AbortController();
    const ask = async () => {
      const answer = await sessions.listSessionTags(
        { prefix: text.value, pageSize: SUGGESTIONS },
        { signal: over.signal },
      );
      found.value = answer.tags;
    };
    const timer = setTimeout(() => void ask().catch((cause) => !isCanceled(cause) && (found.value = [])), TYPING_MS);
    return () => {
      clearTimeout(timer);
      over.abort();
    };
  }, [text.value]);
  const add = (tag: string) => {
    text.value = "";
    if (tag !== "" && !chosen.includes(tag)) setQuery((query) => query.append("tag", tag));
  };
  const typed = (value: string, isPicked: boolean) => (isPicked ? add(value) : (text.value = value));
  return (
    <div class="tags">
      {chosen.slice(0, 20).map((tag) => (
        <button
          type="button"
          class="chip"
          key={tag}
          aria-label={`Without tag ${tag}`}
          onClick={() => setQuery((query) => query.delete("tag", tag))}
        >
          {tag} ✕
        </button>
      ))}
      {chosen.length > 20 && <span class="faint">+{chosen.length - 20} tags</span>}
      <input
        type="search"
        list="tags-in-use"
        aria-label="Tag"
        placeholder={chosen.length ? "or tag" : "Tag"}
        value={text.value}
        onInput={(event) =>
          typed(
            event.currentTarget.value,
            !(event as InputEvent).inputType || (event as InputEvent).inputType === "insertReplacementText",
          )
        }
        onKeyDown={(event) => event.key === "Enter" && add(event.currentTarget.value.trim())}
        autoComplete="off"
        spellcheck={false}
      />
      <datalist id="tags-in-use">
        {found.value.map(({ tag, sessions }) => (
          <option key={tag} value={tag}>
            {String(sessions)} sessions
          </option>
        ))}
      </datalist>
    </div>
  );
}
