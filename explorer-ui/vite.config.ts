import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The node serves this page under a policy of `default-src 'self'`, so nothing may be inlined as a
// data: address, and it embeds every file of dist/, so the build is kept to a handful of them.
export default defineConfig({
  base: '/',
  plugins: [svelte()],
  build: { outDir: 'dist', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: 'http://127.0.0.1:8470', changeOrigin: true } },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
