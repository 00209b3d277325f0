/** What a JSON object is before anything is known of it. */
export type Fields = { [name: string]: unknown };

export const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
