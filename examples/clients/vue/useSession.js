// const { person, warning } = useSession();
// `person` is undefined until it is known, then a user or null; `warning` is an event of type "expiring", or null.

import { onScopeDispose, ref } from "vue";
import { onSessionChange, onSessionEvent, user } from "/bff/client.js";

export function useSession() {
  const [person, warning] = [ref(), ref(null)];
  const stops = [
    onSessionChange((found) => (person.value = found)),
    onSessionEvent((event) => (warning.value = event.type === "expiring" ? event : null)),
  ];
  user().then((found) => (person.value = found));
  onScopeDispose(() => stops.forEach((stop) => stop()));
  return { person, warning };
}
