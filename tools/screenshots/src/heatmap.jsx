// Heatmap panel, drawn here because its code is in Grafana's server.
import React from 'react';
import * as chromatic from 'd3-scale-chromatic';
import { formattedValueToString, getValueFormat } from '@grafana/data';

import { TimeAxis } from './axis';

const AXIS = 20;
const LEGEND = 26;
const LEFT = 74;

export function Heatmap({ panel, frames, range, width, height }) {
  const { color, filterValues, yAxis } = panel.options;
  const scheme = chromatic[`interpolate${color.scheme}`];
  const format = getValueFormat(yAxis.unit);
  const fields = frames.map((frame) => frame.fields[1]);
  const times = frames[0].fields[0].values;
  const most = Math.max(...fields.flatMap((field) => field.values));
  const plot = width - LEFT - 8;
  const [cell, line] = [plot / times.length, (height - AXIS - LEGEND) / fields.length];
  // On a dark page, single-hue schemes start dark.
  const shade = (share) => scheme(1 - share ** color.exponent * 0.95);
  const top = (row) => line * (fields.length - 1 - row);
  return (
    <svg width={width} height={height}>
      {fields.map((field, row) => (
        <g key={row}>
          <text x={LEFT - 8} y={top(row) + line / 2 + 4} textAnchor="end" className="axis">
            {field.labels.le === '+Inf' ? '+Inf' : formattedValueToString(format(Number(field.labels.le)))}
          </text>
          {field.values.map((value, column) =>
            value > filterValues.le ? (
              <rect
                key={column} x={LEFT + cell * column} y={top(row)} fill={shade(value / most)}
                width={Math.max(cell - panel.options.cellGap, 1)} height={Math.max(line - panel.options.cellGap, 1)}
              />
            ) : null
          )}
        </g>
      ))}
      <TimeAxis range={range} left={LEFT} width={plot} top={height - AXIS - LEGEND} />
      {[...Array(64).keys()].map((step) => (
        <rect key={step} x={LEFT + step * 3} y={height - 20} width="3" height="8" fill={shade((step / 63) ** (1 / color.exponent))} />
      ))}
      <text x={LEFT} y={height - 1} className="axis">0</text>
      <text x={LEFT + 192} y={height - 1} textAnchor="end" className="axis">{most.toFixed(0)}</text>
    </svg>
  );
}
