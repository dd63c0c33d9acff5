// const { person, warning } = useSession();
// `person` is undefined until it is known, then a user or null; `warning` is an event of type "expiring", or null.

import { useEffect, useState } from "react";
import { onSessionChange, onSessionEvent, user } from "/bff/client.js";

export function useSession() {
  const [person, setPerson] = useState();
  const [warning, setWarning] = useState(null);
  useEffect(() => {
    const stops = [
      onSessionChange((found) => setPerson(found)),
      onSessionEvent((event) => setWarning(event.type === "expiring" ? event : null)),
    ];
    user().then(setPerson);
    return () => stops.forEach((stop) => stop());
  }, []);
  return { person, warning };
}
