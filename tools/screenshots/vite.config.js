import react from '@vitejs/plugin-react';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // the package has a default export within its default export, which this build does not unwrap
  resolve: {
    alias: [
      { find: /^react-custom-scrollbars-2$/, replacement: fileURLToPath(new URL('./src/scrollbars.js', import.meta.url)) },
    ],
  },
  define: { 'process.env': {}, 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  build: { minify: false, target: 'esnext', chunkSizeWarningLimit: 100000 },
});
