// Time axis for the panel types drawn by this page.
import React from 'react';

const STEPS = [60, 300, 600, 900, 1800, 3600, 7200];

export function TimeAxis({ range, left, width, top }) {
  const seconds = range.to - range.from;
  const step = STEPS.find((one) => (seconds / one) * 70 < width) ?? STEPS.at(-1);
  const times = [];
  for (let time = Math.ceil(range.from / step) * step; time <= range.to; time += step) {
    times.push(time);
  }
  return times.map((time) => (
    <text key={time} x={left + ((time - range.from) / seconds) * width} y={top + 14} textAnchor="middle" className="axis">
      {new Date(time * 1000).toISOString().slice(11, 16)}
    </text>
  ));
}
