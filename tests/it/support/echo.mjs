// An upstream of WebSockets in a process of its own, for tests that open more of them than one process may hold both ends
// of. It repeats short texts (RFC 6455); `GET /open` tells how many are open.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const TEXT = 0x81;
const CLOSE = 0x88;
let open = 0;

const server = createServer((_request, response) => response.end(String(open)));

server.on("upgrade", ({ headers }, socket) => {
  const key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = createHash("sha1").update(key).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  open += 1;
  let bytes = Buffer.alloc(0);
  socket.on("data", (more) => {
    bytes = Buffer.concat([bytes, more]);
    // A head of two bytes, a mask of four, and up to 125 bytes of payload.
    while (bytes.length >= 6 && bytes.length >= 6 + (bytes[1] & 0x7f)) {
      const length = bytes[1] & 0x7f;
      const [first, mask] = [bytes[0], bytes.subarray(2, 6)];
      const payload = Buffer.from(bytes.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]));
      bytes = bytes.subarray(6 + length);
      if (first !== TEXT && first !== CLOSE) return socket.destroy();
      socket.write(Buffer.concat([Buffer.from([first, length]), payload]));
      if (first === CLOSE) return socket.end();
    }
  });
  socket.on("error", () => {});
  // The server leaves its half open when the other side is done.
  socket.on("end", () => socket.end());
  socket.on("close", () => (open -= 1));
});

server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(`listening on ${server.address().port}`));
