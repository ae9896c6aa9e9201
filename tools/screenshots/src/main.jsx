import React, { useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { ThemeContext } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';

import { theme } from './grafana';
import { Panel } from './panel';

const GAP = 8;
const UNIT = 30;
const HEADER = 56;

const asked = new URLSearchParams(window.location.search);
const width = Number(asked.get('width'));
const range = { from: Number(asked.get('from')), to: Number(asked.get('to')) };
const column = (width - GAP) / 24;

const place = ({ x, y, w, h }) => ({
  x: GAP + x * column,
  y: HEADER + y * (UNIT + GAP),
  width: w * column - GAP,
  height: h * (UNIT + GAP) - GAP,
});

function variablesOf(dashboard) {
  const values = dashboard.templating.list.map(({ name, allValue }) => [name, asked.get(name) ?? allValue ?? '']);
  return Object.fromEntries(values);
}

function Variables({ dashboard, values }) {
  return dashboard.templating.list
    .filter(({ type }) => type === 'query')
    .map(({ name, label, allValue }) => (
      <span key={name} className="variable">
        <b>{label}</b>
        {values[name] === allValue ? 'All' : values[name]}
      </span>
    ));
}

function Dashboard({ dashboard }) {
  const values = variablesOf(dashboard);
  const drawn = dashboard.panels.filter(({ type }) => type !== 'row');
  const left = useRef(drawn.length);
  const [isDone, setDone] = useState(false);
  const onDone = () => {
    left.current -= 1;
    setDone(left.current === 0);
  };
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <main style={{ position: 'relative', height: HEADER + bottom * (UNIT + GAP), width }} data-done={isDone || undefined}>
      <header>
        <h1>{dashboard.title}</h1>
        <Variables dashboard={dashboard} values={values} />
      </header>
      {dashboard.panels.map((panel) =>
        panel.type === 'row' ? (
          <h2 key={panel.id} style={{ left: GAP, top: place(panel.gridPos).y }}>{panel.title}</h2>
        ) : (
          <Panel key={panel.id} panel={panel} place={place(panel.gridPos)} variables={values} range={range} onDone={onDone} />
        )
      )}
    </main>
  );
}

const STYLE = `
  main h1 { font-size: 18px; margin: 0 24px 0 0; font-weight: 500; }
  main h2 { position: absolute; margin: 0; font-size: 16px; line-height: 30px; font-weight: 500; }
  header { display: flex; align-items: center; padding: 0 16px; height: ${HEADER}px; }
  .variable { border: 1px solid #2c3035; padding: 4px 10px; margin-right: 8px; border-radius: 2px; font-size: 13px; }
  .variable b { color: #6e9fff; font-weight: 500; margin-right: 8px; }
  .panel { position: absolute; }
  .empty { display: flex; height: 100%; align-items: center; justify-content: center; color: #8e8e99; text-align: center; }
  .axis { fill: #ccccdc; font-size: 12px; }
  pre { color: #f2495c; white-space: pre-wrap; font-size: 11px; }
`;

function App() {
  const [dashboard, setDashboard] = useState(null);
  useEffect(() => {
    fetch(`/dashboards/${asked.get('dashboard')}.json`).then((response) => response.json()).then(setDashboard);
  }, []);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{STYLE}</style>
      {dashboard && <Dashboard dashboard={dashboard} />}
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<App />);
