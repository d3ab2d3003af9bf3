// What openai-node's users do: a chat, a stream, tools to the end, an error. Prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI();
const model = "gemini-3.8-flash";
const hello = { model, messages: [{ role: "user", content: "Hello, lighthouse" }] };

const whole = await client.chat.completions.create(hello);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...hello, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}

const asked = [];
const runner = client.chat.completions.runTools({
  model,
  messages: [{ role: "user", content: "Use get_weather" }],
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
        parse: JSON.parse,
        function: async ({ city }) => {
          asked.push(city);
          return "It is fine.";
        },
      },
    },
  ],
});
const after = await runner.finalContent();

let failed = null;
try {
  await client.chat.completions.create({ ...hello, model: "gpt-4o" });
} catch (error) {
  failed = error.constructor.name;
}
console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed, asked, after, failed }));
