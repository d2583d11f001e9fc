// The exit codes by which the process of the embedded store reports why it could not start.

/** The package js-redis-server is not installed. */
export const EXIT_NOT_INSTALLED = 78;
