// State timeline panel, drawn here because its code is in Grafana's server.
import React from 'react';
import { getFieldDisplayName, getActiveThreshold } from '@grafana/data';

import { TimeAxis } from './axis';
import { theme } from './grafana';

const AXIS = 20;
const LEGEND = 22;

// Merge consecutive equal values: equal by threshold if thresholds set the colour, otherwise by value.
function blocks(field, times) {
  const byThreshold = field.config.color?.mode === 'thresholds';
  const found = [];
  field.values.forEach((value, index) => {
    if (value === null) {
      return;
    }
    const key = byThreshold ? field.config.thresholds.steps.indexOf(getActiveThreshold(value, field.config.thresholds.steps)) : value;
    const last = found.at(-1);
    if (last && last.end === index && last.key === key) {
      last.end = index + 1;
    } else {
      found.push({ key, value, begin: index, end: index + 1 });
    }
  });
  return found.map((block) => ({ ...block, from: times[block.begin], to: times[block.end] ?? times.at(-1) }));
}

function legendOf(fields) {
  const entries = new Map();
  for (const field of fields) {
    const { thresholds, color } = field.config;
    if (color?.mode === 'thresholds') {
      thresholds.steps.forEach((step, index) => {
        const text = index ? `${field.display(step.value).text}${field.display(step.value).suffix ?? ''}+` : `< ${field.display(thresholds.steps[1].value).text}${field.display(thresholds.steps[1].value).suffix ?? ''}`;
        entries.set(text, theme.visualization.getColorByName(step.color));
      });
    } else {
      field.values.filter((value) => value !== null).forEach((value) => entries.set(field.display(value).text, field.display(value).color));
    }
  }
  return [...entries];
}

export function Timeline({ panel, frames, range, width, height }) {
  const fields = frames.map((frame) => frame.fields[1]);
  const names = fields.map((field, index) => getFieldDisplayName(field, frames[index], frames));
  const left = Math.min(width / 2, 12 + 7.6 * Math.max(...names.map((name) => name.length)));
  const plot = width - left - 8;
  const line = (height - AXIS - LEGEND) / fields.length;
  const across = (time) => left + ((time / 1000 - range.from) / (range.to - range.from)) * plot;
  const showsValues = panel.options.showValue !== 'never';
  let legendLeft = 4;
  return (
    <svg width={width} height={height}>
      {fields.map((field, row) => (
        <g key={row}>
          <text x={left - 8} y={line * (row + 0.5) + 4} textAnchor="end" className="axis">{names[row]}</text>
          {blocks(field, frames[row].fields[0].values).map((block) => {
            const shown = field.display(block.value);
            const [x, wide] = [across(block.from), across(block.to) - across(block.from)];
            const text = `${shown.text}${shown.suffix ?? ''}`;
            return (
              <g key={block.begin}>
                <rect x={x} y={line * (row + 0.1)} width={Math.max(wide, 1)} height={line * 0.8} fill={shown.color} fillOpacity="0.75" />
                {showsValues && wide > 8 * text.length && (
                  <text x={x + 4} y={line * (row + 0.5) + 4} fill={theme.colors.getContrastText(shown.color)} fontSize="12">{text}</text>
                )}
              </g>
            );
          })}
        </g>
      ))}
      <TimeAxis range={range} left={left} width={plot} top={height - AXIS - LEGEND} />
      {legendOf(fields).map(([text, color]) => {
        const x = legendLeft;
        legendLeft += 36 + 7 * text.length;
        return (
          <g key={text}>
            <rect x={x} y={height - 12} width="14" height="4" rx="2" fill={color} />
            <text x={x + 18} y={height - 6} className="axis">{text}</text>
          </g>
        );
      })}
    </svg>
  );
}
