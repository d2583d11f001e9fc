# The service with its production dependencies only. It needs SA_STORE_URL: no store is inside.

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional

FROM node:24-slim
ENV NODE_ENV=production
# Every address of the container; the service refuses to start like this without TLS and caller authentication,
# or SA_INSECURE=true where the network itself is trusted.
ENV SA_GRPC_LISTEN=0.0.0.0:50051 SA_HTTP_LISTEN=0.0.0.0:8080
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json ./
COPY gen gen
COPY src src
USER node
EXPOSE 50051 8080
HEALTHCHECK --interval=10s --timeout=4s --start-period=15s --retries=3 CMD ["node", "src/main.ts", "healthcheck"]
ENTRYPOINT ["node", "src/main.ts"]
CMD ["serve"]
