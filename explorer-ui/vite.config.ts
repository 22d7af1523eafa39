import { svelte } from '@sveltejs/vite-plugin-svelte';
import { loadEnv } from 'vite';
import { defineConfig } from 'vitest/config';

// The node serves this page with `Content-Security-Policy: default-src 'self'`, so no file may be inlined as a `data:`
// address. It embeds every file of dist/, so the build is kept to a handful of files.
export default defineConfig(({ mode }) => ({
  base: '/',
  plugins: [svelte()],
  build: { outDir: 'dist', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: {
    host: '127.0.0.1',
    // The API, and what the node draws and writes for others.
    proxy: Object.fromEntries(
      ['/api', '^/([tn]/[^/]+|search)/(chart|badge|feed)[.]'].map((path) => [path, { target: loadEnv(mode, '.', 'SPORE_').SPORE_API ?? 'http://127.0.0.1:8470', changeOrigin: true }]),
    ),
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
}));
