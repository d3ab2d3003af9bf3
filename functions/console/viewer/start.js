// All addresses are relative to /docs, so that the page works below any address that the function is deployed at.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  // The badge of a foreign validator.
  validatorUrl: null,
  // A key that was typed in is forgotten with the page.
  persistAuthorization: false,
});
